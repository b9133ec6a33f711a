//! What becomes of memory that libtorch gives back.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::ffi::c_int;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::sync::OnceLock;

/// Keeps freed memory for the next layer: handed back to the system, the buffers of every layer would be mapped and
/// zeroed again. For the whole process, once.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            // SAFETY: mallopt only sets parameters of glibc's allocator, under its own lock.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20); // the most that glibc takes
                libc::mallopt(libc::M_TRIM_THRESHOLD, c_int::MAX);
                libc::mallopt(libc::M_TOP_PAD, 16 << 20);
            }
        });
    }
}

/// The same of buffers of any size: in every step of a training there are some of hundreds of megabytes, of the vocabulary's scores and
/// of the embedding's gradients, and a fifth of its time went to mapping and zeroing them. Forward passes alone are no faster
/// for it.
pub fn keep_large_freed_memory() {
    keep_freed_memory();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
    }
}

/// Gives the system what is free, once a model that was needed for a moment is gone: glibc alone keeps most of it.
pub fn hand_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes the allocator's own locks and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
