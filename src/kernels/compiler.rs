//! CUDA C++ to machine code, with NVRTC.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cudarc::nvrtc::{result, sys};

use crate::cache_dir::cache_dir;

/// One source file of `kernels/`.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The file's name without `.cu`.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
    /// The kernels in it.
    pub entries: &'static [&'static str],
}

/// What stands before every source.
const COMMON: &str = include_str!("../../kernels/common.cuh");

macro_rules! source {
    ($name:literal, $entries:expr) => {
        Source { name: $name, text: include_str!(concat!("../../kernels/", $name, ".cu")), entries: &$entries }
    };
}

/// All sources.
pub const SOURCES: [Source; 6] = [
    source!("rms_norm", ["rms_norm"]),
    source!("rotary", ["rotary"]),
    source!("swiglu", ["swiglu"]),
    source!("log_probs", ["log_probs"]),
    source!("int8", ["dequantize_int8"]),
    source!("tree_attention", ["tree_attention_64", "tree_attention_128"]),
];

/// A compiled source.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Machine code (a cubin): unlike PTX it runs whatever the driver's own compiler knows.
    pub code: Vec<u8>,
    /// What the compiler says: registers and spills of each kernel.
    pub log: String,
}

impl Source {
    /// The whole text that is compiled.
    pub fn whole(&self) -> String {
        format!("{COMMON}\n#line 1 \"{}.cu\"\n{}", self.name, self.text)
    }

    /// Compiles to machine code of an architecture such as `sm_90`. No card is needed.
    ///
    /// # Errors
    /// Where NVRTC is not, or what it objects to.
    pub fn compile(&self, architecture: &str) -> Result<Compiled, String> {
        find_nvrtc()?;
        let text = CString::new(self.whole()).expect("sources have no zero byte");
        let name = CString::new(format!("{}.cu", self.name)).expect("names have no zero byte");
        let options =
            [format!("--gpu-architecture={architecture}"), "--std=c++17".into(), "-Xptxas".into(), "-v".into()];
        let program = result::create_program(&text, Some(&name)).map_err(|error| format!("NVRTC: {error:?}"))?;
        // SAFETY: the program was just created, is used by this thread alone and destroyed below, once.
        let compiled = unsafe {
            let done = result::compile_program(program, &options);
            let log = result::get_program_log(program).unwrap_or_default();
            let log =
                if log.is_empty() { String::new() } else { CStr::from_ptr(log.as_ptr()).to_string_lossy().into() };
            match done {
                Ok(()) => machine_code(program).map(|code| (code, log)).map_err(|error| format!("NVRTC: {error:?}")),
                Err(_) => Err(format!("{}.cu does not compile for {architecture}: {}", self.name, log.trim())),
            }
        };
        // SAFETY: as above; nothing uses it any more.
        let _ = unsafe { result::destroy_program(program) };
        let (code, log) = compiled?;
        Ok(Compiled { code, log })
    }
}

/// A compiled program's machine code.
///
/// # Safety
/// The program must have been compiled.
unsafe fn machine_code(program: sys::nvrtcProgram) -> Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0;
    // SAFETY: a number to write to.
    unsafe { sys::nvrtcGetCUBINSize(program, &mut size) }.result()?;
    let mut code = vec![0_u8; size];
    // SAFETY: as many bytes as it asked for.
    unsafe { sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()) }.result()?;
    Ok(code)
}

/// NVRTC's version, such as 13.0.
///
/// # Errors
/// Where NVRTC is not.
pub fn version() -> Result<String, String> {
    find_nvrtc()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: two integers to write to.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result().map_err(|error| format!("NVRTC: {error:?}"))?;
    Ok(format!("{major}.{minor}"))
}

/// NVRTC and the library it loads itself, which it does not look for beside itself.
const LIBRARIES: [&str; 2] = ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"];

/// Loads NVRTC from the library path, or from where libtorch or NVIDIA's packages beside it have it. Later it is found by
/// its name.
fn find_nvrtc() -> Result<(), String> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let folders = folders();
            for library in LIBRARIES {
                let anywhere = folders.iter().map(|folder| folder.join(library)).filter(|file| file.is_file());
                for file in [PathBuf::from(library)].into_iter().chain(anywhere) {
                    // SAFETY: NVIDIA's libraries have no initializers that matter here.
                    if let Ok(found) = unsafe { libloading::Library::new(&file) } {
                        std::mem::forget(found);
                        break;
                    }
                }
            }
            // SAFETY: only looks.
            if unsafe { sys::is_culib_present() } {
                return Ok(());
            }
            let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            Err(format!(
                "NVRTC 13 ({}) is neither on the library path nor in {}; `make libtorch` brings it, so does \
                 `pip install nvidia-cuda-nvrtc` with its lib folder in LD_LIBRARY_PATH",
                LIBRARIES[1],
                folders.join(", ")
            ))
        })
        .clone()
}

/// Where set-up puts NVRTC in the cache when libtorch was brought without it.
const FETCHED: &str = "nvrtc-13.0.88";

/// Folders that may have NVRTC: libtorch's own, `nvidia/cu13/lib` where pip puts it beside torch, and the cache.
fn folders() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let libtorch = maps.lines().filter_map(|line| line.split_whitespace().last());
    let libtorch = libtorch.map(Path::new).find(|file| file.file_name().is_some_and(|name| name == "libtorch_cpu.so"));
    let Some(lib) = libtorch.and_then(Path::parent) else { return Vec::new() };
    let packages = lib.parent().and_then(Path::parent).map(|packages| packages.join("nvidia/cu13/lib"));
    let fetched = cache_dir().join(FETCHED);
    std::iter::once(lib.to_path_buf()).chain(packages).chain([fetched]).collect()
}
