//! How much memory does the process have, and how much may it have?
//!
//! What it has stands in `/proc/self/statm` (proc(5)). What it may have is the machine's, or less where a control group says so:
//! `memory.max` (cgroup v2) or `memory.limit_in_bytes` (v1) of its own group and of every group above it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{param::page_size, system::sysinfo};

use crate::memory::Memory;

/// Where control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";

/// This process's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsMemory;

impl Memory for OsMemory {
    fn used_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string("/proc/self/statm")?;
        let pages = resident_pages(&text).ok_or_else(|| io::Error::other("cannot read /proc/self/statm"))?;
        Ok(pages.saturating_mul(page_size() as u64))
    }
}

/// Bytes of memory that the process may use: the machine's, or less where it is in a group that may use less.
pub fn memory_bytes_max() -> u64 {
    let machine = sysinfo();
    let machine_bytes = machine.totalram.saturating_mul(machine.mem_unit.into());
    // Without groups there is no such file.
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_bytes(Path::new(GROUPS), &groups).map_or(machine_bytes, |bytes| bytes.min(machine_bytes))
}

/// The second number: the first is what is mapped, most of it nowhere in memory.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The least that the groups of a process allow; none: they allow anything. `groups` is its `/proc/self/cgroup`, with lines of
/// hierarchy, controllers and path: `0::/path` of v2, `4:memory:/path` of v1 (cgroups(7)).
fn group_bytes(mounted: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match (hierarchy, controllers) {
            ("0", "") => along(mounted.to_owned(), path, "memory.max"),
            (_, some) if some.split(',').any(|one| one == "memory") => {
                along(mounted.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// The least limit of a group and of those above it, up to where they are mounted. In a container the path may be one of the
/// machine's, which is not there: what is mounted is the container's own group then.
fn along(mounted: PathBuf, path: &str, file: &str) -> Option<u64> {
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    groups.filter_map(|group| limit(&fs::read_to_string(mounted.join(group).join(file)).ok()?)).min()
}

/// A limit as it stands in its file; none for `max`, and for what is no number.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resident_is_the_second_number() {
        let check = |text, expected| assert_eq!(resident_pages(text), expected, "{text:?}");
        check("365164 15508 11347 12015 0 265867 0\n", Some(15508));
        check("1 18446744073709551615 0", Some(u64::MAX));
        check("1 18446744073709551616 0", None);
        check("1", None);
        check("1 x 2", None);
        check("1 -1 2", None);
        check("", None);
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        let check = |text, expected| assert_eq!(limit(text), expected, "{text:?}");
        check("max\n", None);
        check("0\n", Some(0));
        check("1073741824\n", Some(1 << 30));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("-1", None);
        check("1 2", None);
        check("", None);
    }

    /// Writes the files of a tree of groups and asks for the limit of a process in them.
    fn check(files: &[(&str, &str)], groups: &str, expected: Option<u64>) {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("in the folder")).expect("a folder");
            fs::write(path, text).expect("written");
        }
        assert_eq!(group_bytes(dir.path(), groups), expected, "{files:?} {groups:?}");
    }

    #[test]
    fn the_least_limit_from_a_group_upwards_holds() {
        let own = ("a/b/memory.max", "500\n");
        check(&[own], "0::/a/b\n", Some(500));
        check(&[own, ("a/memory.max", "400\n")], "0::/a/b\n", Some(400));
        check(&[own, ("a/memory.max", "600\n"), ("memory.max", "max\n")], "0::/a/b\n", Some(500));
        check(&[own], "0::/a\n", None);
        check(&[("memory.max", "max\n")], "0::/\n", None);
        check(&[], "0::/a/b\n", None);
        // The path of the machine, in a container that has a group of its own mounted.
        check(&[("memory.max", "700\n")], "0::/docker/x\n", Some(700));
    }

    #[test]
    fn the_first_version_of_groups_has_a_tree_for_memory() {
        let own = ("memory/a/memory.limit_in_bytes", "500\n");
        let groups = "9:name=systemd:/\n5:cpu,memory:/a\n1:cpu:/b\n0::/\n";
        check(&[own], groups, Some(500));
        check(&[own, ("memory/memory.limit_in_bytes", "9223372036854771712\n")], groups, Some(500));
        check(&[own, ("memory.max", "300\n")], groups, Some(300));
        check(&[own], "1:cpu:/a\n", None);
        check(&[own], "nothing that is known\n::\n\n", None);
    }

    #[test]
    fn this_process_has_some_memory_and_may_have_more() {
        let used = OsMemory.used_bytes().expect("Linux");
        assert!(used >= page_size() as u64 && used < memory_bytes_max(), "{used} {}", memory_bytes_max());
    }
}
