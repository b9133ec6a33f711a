//! Lets the binary find libtorch without LD_LIBRARY_PATH, on the CPU and, with a CUDA libtorch on the library path, on the GPU.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // From torch-sys (`links = "tch"`): where it linked libtorch from, a PyTorch's `lib` included.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if let (Ok(lib), true) = (lib, linux) {
        // RUNPATH, so that LD_LIBRARY_PATH can still put a CUDA libtorch in front.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
        // libtorch.so is an empty stub in a CPU libtorch; a CUDA one pulls in libtorch_cuda.so.
        println!("cargo:rustc-link-search=native={lib}");
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch");
    }
}
