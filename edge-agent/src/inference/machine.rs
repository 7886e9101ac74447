//! What the machine has: its memory, the limits of the control groups that this process is in, and how warm it is. Read anew each time,
//! from the kernel's files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use edge_core::admit::{Bound, Limit, Usage, free_of_machine};

/// A limit that is as good as none: control groups of version 1 say it so.
const NO_LIMIT: u64 = 1 << 60;

/// Where the kernel's files lie.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A machine whose kernel's files lie elsewhere.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The bounds of memory, the machine's own first, and what of them is free beside so many bytes of weights that are mapped from files.
    /// Empty where the kernel tells nothing.
    #[must_use]
    pub fn bounds(&self, mapped: u64) -> Vec<Bound> {
        let memory = fs::read_to_string(self.root.join("proc/meminfo")).ok().and_then(|text| meminfo(&text, mapped));
        memory.into_iter().chain(self.groups(mapped)).collect()
    }

    /// The highest temperature that the kernel tells of, in degrees Celsius.
    #[must_use]
    pub fn temperature(&self) -> Option<f64> {
        let zones = fs::read_dir(self.root.join("sys/class/thermal")).ok()?;
        let degrees = |zone: fs::DirEntry| {
            let millis: f64 = fs::read_to_string(zone.path().join("temp")).ok()?.trim().parse().ok()?;
            // Zones that are not wired tell of absolute zero or of several hundred degrees.
            Some(millis / 1_000.0).filter(|degrees| (-40.0..=150.0).contains(degrees))
        };
        zones.filter_map(Result::ok).filter_map(degrees).max_by(f64::total_cmp)
    }

    fn groups(&self, mapped: u64) -> Vec<Bound> {
        let Ok(text) = fs::read_to_string(self.root.join("proc/self/cgroup")) else { return Vec::new() };
        let mut found = Vec::new();
        for line in text.lines() {
            // `number:controllers:path`, see cgroups(7).
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let (mount, version) = match controllers {
                "" if number == "0" => ("sys/fs/cgroup", Version::Two),
                list if list.split(',').any(|name| name == "memory") => ("sys/fs/cgroup/memory", Version::One),
                _ => continue,
            };
            let mount = self.root.join(mount);
            // A group has no more than those that it is in.
            for group in Path::new(path.trim_start_matches('/')).ancestors() {
                found.extend(version.bound(&mount.join(group), &format!("/{}", group.display()), mapped));
            }
        }
        found
    }
}

#[derive(Debug, Clone, Copy)]
enum Version {
    One,
    Two,
}

impl Version {
    fn bound(self, folder: &Path, name: &str, mapped: u64) -> Option<Bound> {
        let (limit, used, prefix) = match self {
            Self::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
            Self::Two => ("memory.max", "memory.current", ""),
        };
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
        // `max` is no number, and no limit.
        let total = read(limit)?.trim().parse::<u64>().ok().filter(|limit| *limit < NO_LIMIT)?;
        let used: u64 = read(used)?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let pages = |name: &str| field(&stat, &format!("{prefix}{name}")).unwrap_or(0);
        let usage = Usage { used, inactive_files: pages("inactive_file"), active_files: pages("active_file") };
        let free = usage.free(total, mapped);
        Some(Bound { limit: Limit::Group(name.to_owned()), total, free, rest: 0 })
    }
}

/// The memory of `/proc/meminfo` (proc_meminfo(5)), whose numbers are in KiB.
fn meminfo(text: &str, mapped: u64) -> Option<Bound> {
    let bytes = |name: &str| field(text, name).map(|number| number << 10);
    let free = free_of_machine(bytes("MemAvailable:")?, mapped);
    Some(Bound { limit: Limit::Machine, total: bytes("MemTotal:")?, free, rest: 0 })
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_ascii_whitespace);
    let mut line = words.find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    line.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of files.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let machine = Machine::at(folder.path());
        (folder, machine)
    }

    fn told(machine: &Machine) -> Vec<(String, u64, u64)> {
        told_beside(machine, 0)
    }

    /// Names, totals and what is free beside mapped weights.
    fn told_beside(machine: &Machine, mapped: u64) -> Vec<(String, u64, u64)> {
        let name = |limit: Limit| match limit {
            Limit::Machine => "machine".to_owned(),
            Limit::Group(path) => path,
            Limit::Configured => "configured".to_owned(),
        };
        machine.bounds(mapped).into_iter().map(|bound| (name(bound.limit), bound.total, bound.free)).collect()
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  1024 kB\nMemFree:  100 kB\nMemAvailable:   512 kB\n");

    #[test]
    fn groups_of_version_two_bound_with_all_that_they_are_in() {
        let (_folder, machine) = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/system.slice/skerry.service\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "90\n"),
            ("sys/fs/cgroup/system.slice/skerry.service/memory.max", "1000\n"),
            ("sys/fs/cgroup/system.slice/skerry.service/memory.current", "700\n"),
            ("sys/fs/cgroup/system.slice/skerry.service/memory.stat", "anon 500\ninactive_file 150\nactive_file 50\n"),
        ]);
        let expected = [("machine", 1 << 20, 1 << 19), ("/system.slice/skerry.service", 1000, 450)];
        assert_eq!(told(&machine), expected.map(|(name, total, free)| (name.to_owned(), total, free)));
        // 200 bytes of weights are these pages of files, and 124 more are to come.
        let beside = told_beside(&machine, 324);
        assert_eq!((beside[0].2, beside[1].2), ((1 << 19) - 324, 1000 - 500 - 324));
    }

    #[test]
    fn groups_of_version_one_bound_too_and_their_highest_number_is_no_limit() {
        let (_folder, machine) = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a/b\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1500\n"),
            ("sys/fs/cgroup/memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "7\n"),
        ]);
        assert_eq!(told(&machine)[1..], [("/a".to_owned(), 2000, 600)]);
    }

    #[test]
    fn the_warmest_zone_counts_and_nonsense_does_not() {
        let (_folder, machine) = machine(&[
            ("sys/class/thermal/thermal_zone0/temp", "48500\n"),
            ("sys/class/thermal/thermal_zone1/temp", "61250\n"),
            ("sys/class/thermal/thermal_zone2/temp", "-273200\n"),
            ("sys/class/thermal/cooling_device0/type", "fan\n"),
        ]);
        assert_eq!(machine.temperature(), Some(61.25));
    }

    #[test]
    fn a_machine_that_tells_nothing_has_no_bounds() {
        let (_folder, machine) = machine(&[("proc/meminfo", "MemTotal: lots\n")]);
        assert_eq!((machine.bounds(0), machine.temperature()), (Vec::new(), None));
    }

    #[test]
    fn this_machine_tells_its_memory() {
        let bounds = Machine::this().bounds(0);
        assert!(
            bounds.iter().any(|bound| bound.limit == Limit::Machine && bound.free > 0 && bound.free <= bound.total)
        );
    }
}
