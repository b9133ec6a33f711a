//! What a process may use.

use std::fs;
use std::io;

/// Limits of one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of address space beyond what the program itself takes.
    pub memory: u64,
    /// Seconds of processor time for an answer.
    pub seconds: u64,
}

impl Limits {
    /// For whole files of data.
    pub const DATA: Limits = Limits { memory: 4 << 30, seconds: 600 };
    /// For one text out of a template or a tokenizer.
    pub const TEXT: Limits = Limits { memory: 2 << 30, seconds: 10 };

    /// Puts this process, which is for one piece of work, under its limits.
    pub(super) fn bind(self) -> io::Result<()> {
        self.renew_time();
        lower(libc::RLIMIT_AS, address_space().saturating_add(self.memory))?;
        lower(libc::RLIMIT_CORE, 0)
    }

    /// Gives such a process its seconds anew.
    pub(super) fn renew_time(self) {
        // SAFETY: an all-zero rusage is one, and the call fills it.
        let used = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
        };
        // Without the limit the work is done all the same.
        let _ = lower(libc::RLIMIT_CPU, (used.max(0) as u64).saturating_add(self.seconds + 1));
    }
}

/// Sets a soft limit, as far as the hard one allows.
fn lower(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    // SAFETY: both calls read or fill one rlimit.
    let done = unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(resource, &mut limit);
        limit.rlim_cur = value.min(limit.rlim_max);
        libc::setrlimit(resource, &limit)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of address space that this process has.
fn address_space() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(1 << 22) * page.max(1) as u64
}
