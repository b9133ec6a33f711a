//! How much memory there is.

use std::fs;

/// Bytes that this machine can still give to a process on the CPU: what the kernel calls available, or what the limits of
/// the control group leave, where they leave less. `None` where neither is told.
pub fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    [machine, group()].into_iter().flatten().min()
}

/// Bytes that this machine can give to processes at most, swap included: what it has, or what the limit of the control group
/// allows. `None` where neither is told.
pub fn total() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| Some(field(&text, "MemTotal:")? + field(&text, "SwapTotal:").unwrap_or(0)));
    let group =
        ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].into_iter().find_map(number);
    [machine, group].into_iter().flatten().min()
}

/// The number that a file holds.
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the control group (version 2, or 1) leaves.
fn group() -> Option<u64> {
    // Pages of files are given back before anything fails.
    let reclaimable = |path: &str| fs::read_to_string(path).ok().map(|text| file_pages(&text));
    let left = |dir: &str, limit: &str, used: &str| {
        let used = number(&format!("{dir}/{used}"))?;
        let used = used.saturating_sub(reclaimable(&format!("{dir}/memory.stat")).unwrap_or(0));
        Some(number(&format!("{dir}/{limit}"))?.saturating_sub(used))
    };
    left("/sys/fs/cgroup", "memory.max", "memory.current")
        .or_else(|| left("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
}

/// Bytes of files that a group's `memory.stat` counts as kept.
fn file_pages(stat: &str) -> u64 {
    let of = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
    ["inactive_file ", "active_file "].into_iter().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_tells() {
        let text = "MemTotal:       1000 kB\nMemAvailable:    640 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(640 * 1024));
        assert_eq!(field(text, "SwapFree:"), None);
        assert_eq!(file_pages("anon 5\ninactive_file 300\nactive_file 40\n"), 340);
        assert!(total().is_none_or(|bytes| available().is_none_or(|free| free <= bytes)));
        assert!(available().is_none_or(|bytes| bytes > 1 << 20));
    }
}
