//! How much memory a process may use.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Memory in bytes that this process may use, where the system says (Linux): the machine's, or a container's limit
/// where that is less.
pub fn memory_bytes() -> Option<u64> {
    let of_machine = machine(&read_to_string("/proc/meminfo").ok()?);
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    [of_machine, of_groups(&groups, Path::new("/sys/fs/cgroup"))].into_iter().flatten().min()
}

fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The least limit of the control groups that a process is in, by the lines of its `/proc/PID/cgroup`, and of those
/// above them. In a container a group's own folder may be shown as the root.
fn of_groups(lines: &str, root: &Path) -> Option<u64> {
    let limits = lines.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (mount, file): (PathBuf, _) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let group = mount.join(path.trim_start_matches('/'));
        // What isn't a number is `max`: no limit.
        let limit = |folder: &Path| read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        group.ancestors().take_while(|folder| folder.starts_with(&mount)).filter_map(limit).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(machine("MemTotal:       24689088 kB\nMemFree: 1 kB\n"), Some(24_689_088 * 1024));
        assert_eq!(machine("nothing"), None);
    }

    #[test]
    fn the_least_limit_of_a_group_and_of_those_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(of_groups("0::/a/b\n", root.path()), None);
        write("a/memory.max", "4000\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(of_groups("0::/a/b\n", root.path()), Some(4000));
        write("memory/x/memory.limit_in_bytes", "3000\n");
        assert_eq!(of_groups("4:memory:/x\n1:cpu:/\n0::/a/b\n", root.path()), Some(3000));
        // A container that shows its own group as the root.
        write("memory.max", "2000\n");
        assert_eq!(of_groups("0::/elsewhere\n", root.path()), Some(2000));
    }
}
