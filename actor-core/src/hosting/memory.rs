//! How much memory this program may use, as its machine says it.
//!
//! Read once when a node starts. Only Linux tells; elsewhere [`ASSUMED`] is taken.

use std::{fs, path::Path};

/// What is assumed where nothing can be read: 4 GiB.
const ASSUMED: usize = 4 << 30;

/// Returns the bytes the program may use: the machine's memory, or less if a control group says so.
pub(super) fn available() -> usize {
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    let group = read("/proc/self/cgroup").and_then(|text| tightest(&text));
    machine.into_iter().chain(group).min().unwrap_or(ASSUMED)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Reads `MemTotal: 24689020 kB` out of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns the lowest limit of the groups named in `/proc/self/cgroup` and all above them.
fn tightest(groups: &str) -> Option<usize> {
    let limits = groups.lines().flat_map(|line| {
        // Version 2 has one line, `0::/path`; version 1 one for each set of controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next(), fields.next());
        let (root, file) = match controllers {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some(names) if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let path = Path::new(path.unwrap_or_default().trim_start_matches('/'));
        let ups = path.ancestors();
        // Without a limit the file holds `max`, or is not there: neither is a number.
        ups.filter_map(|up| {
            read(Path::new(root).join(up).join(file))?
                .trim()
                .parse()
                .ok()
        })
        .collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_kibibytes() {
        let text = "MemFree:  12 kB\nMemTotal:       24689020 kB\n";

        assert_eq!(total(text), Some(24_689_020 * 1024));
        assert_eq!(total("MemTotal: much"), None);
        assert_eq!(total(""), None);
    }

    #[test]
    fn groups_that_cannot_be_read_set_no_limit() {
        assert_eq!(tightest("0::/no-such-group-of-ours"), tightest("0::/"));
        assert_eq!(tightest("nonsense\n7:cpu:/x"), None);
    }

    #[test]
    fn something_is_available() {
        assert!(available() > 0);
    }
}
