//! Resource use, from the files of the container's cgroup and from its processes.

use std::{fs, path::Path};

use super::{
    cgroup::{Cgroup, value_of},
    instance::Container,
};
use crate::proto::{
    ContainerFigures, CpuFigures, DescriptorFigures, DiskFigures, HugepageFigures, MemoryFigures, Pressure,
    PressureLine,
};

/// None when the cgroup is gone. A controller may be missing; then its figures are 0.
pub fn collect(container: &Container, descriptors: bool) -> Option<ContainerFigures> {
    let cgroup = &container.cgroup;
    let cpu = cgroup.read("cpu.stat").ok()?;
    let processes = cgroup.processes();
    Some(ContainerFigures {
        id: container.id.clone(),
        cpu: Some(cpu_figures(&cpu)),
        memory: Some(memory_figures(cgroup)),
        disks: disk_figures(&cgroup.read("io.stat").unwrap_or_default()),
        hugepages: hugepage_figures(cgroup),
        writable_layer: container.layer.last(),
        processes: processes.len() as u64,
        threads: number(cgroup, "pids.current"),
        threads_limit: number(cgroup, "pids.max"),
        oom_kills: cgroup.oom_kills(),
        cpu_pressure: pressure(cgroup, "cpu.pressure"),
        memory_pressure: pressure(cgroup, "memory.pressure"),
        io_pressure: pressure(cgroup, "io.pressure"),
        descriptors: descriptors.then(|| descriptor_figures(container.pid, &processes)),
    })
}

/// 0 for "max", and for a file that is not there.
fn number(cgroup: &Cgroup, file: &str) -> u64 {
    cgroup.number(file).unwrap_or(0)
}

fn cpu_figures(text: &str) -> CpuFigures {
    let of = |key: &str| value_of(text, key).unwrap_or(0);
    CpuFigures {
        usage_ns: of("usage_usec") * 1000,
        user_ns: of("user_usec") * 1000,
        system_ns: of("system_usec") * 1000,
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled_ns: of("throttled_usec") * 1000,
    }
}

fn memory_figures(cgroup: &Cgroup) -> MemoryFigures {
    let text = cgroup.read("memory.stat").unwrap_or_default();
    let events = cgroup.read("memory.events").unwrap_or_default();
    let of = |key: &str| value_of(&text, key).unwrap_or(0);
    let usage = number(cgroup, "memory.current");
    MemoryFigures {
        usage,
        working_set: usage.saturating_sub(of("inactive_file")),
        rss: of("anon"),
        cache: of("file"),
        mapped_file: of("file_mapped"),
        kernel: of("kernel"),
        swap: number(cgroup, "memory.swap.current"),
        peak: number(cgroup, "memory.peak"),
        limit: number(cgroup, "memory.max"),
        swap_limit: number(cgroup, "memory.swap.max"),
        limit_hits: value_of(&events, "max").unwrap_or(0),
        page_faults: of("pgfault"),
        major_page_faults: of("pgmajfault"),
    }
}

/// Lines like `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn disk_figures(text: &str) -> Vec<DiskFigures> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(device, values)| {
            let of = |key: &str| {
                let mut pairs = values.split_whitespace().filter_map(|pair| pair.split_once('='));
                pairs.find(|it| it.0 == key).map_or(0, |it| it.1.parse().unwrap_or(0))
            };
            DiskFigures {
                device: device.to_owned(),
                read_bytes: of("rbytes"),
                write_bytes: of("wbytes"),
                reads: of("rios"),
                writes: of("wios"),
            }
        })
        .collect()
}

fn hugepage_figures(cgroup: &Cgroup) -> Vec<HugepageFigures> {
    let names = cgroup.files();
    let sizes = names
        .iter()
        .filter_map(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".current"));
    sizes
        // The reservations of a size have files of their own.
        .filter(|size| !size.contains(".rsvd"))
        .map(|size| HugepageFigures {
            page_size: size.to_owned(),
            usage_bytes: number(cgroup, &format!("hugetlb.{size}.current")),
            limit_hits: value_of(
                &cgroup.read(&format!("hugetlb.{size}.events")).unwrap_or_default(),
                "max",
            )
            .unwrap_or(0),
        })
        .collect()
}

/// None where the kernel does not keep it: reading the file then fails.
fn pressure(cgroup: &Cgroup, file: &str) -> Option<Pressure> {
    parse_pressure(&cgroup.read(file).ok()?)
}

/// Lines like `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse_pressure(text: &str) -> Option<Pressure> {
    let line = |name: &str| {
        let values = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        let of = |key: &str| {
            let mut pairs = values.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.find(|it| it.0 == key).map(|it| it.1)
        };
        let share = |key: &str| of(key).and_then(|it| it.parse().ok()).unwrap_or(0.0);
        Some(PressureLine {
            avg10: share("avg10"),
            avg60: share("avg60"),
            avg300: share("avg300"),
            total_us: of("total")?.parse().ok()?,
        })
    };
    Some(Pressure {
        some: Some(line("some")?),
        full: line("full"),
    })
}

/// What ends meanwhile is not counted.
fn descriptor_figures(first: libc::pid_t, processes: &[libc::pid_t]) -> DescriptorFigures {
    let mut figures = DescriptorFigures {
        // Its number may be another's by now.
        open_files_limit: if processes.contains(&first) {
            open_files_limit(first)
        } else {
            0
        },
        ..DescriptorFigures::default()
    };
    for pid in processes {
        for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            figures.open += 1;
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if target.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
                figures.sockets += 1;
            }
        }
    }
    figures
}

fn open_files_limit(pid: libc::pid_t) -> u64 {
    let limits = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pressure() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=4242\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n";
        let found = parse_pressure(text).unwrap();
        let some = found.some.unwrap();
        assert_eq!((some.avg10, some.avg60, some.total_us), (1.5, 0.25, 4242));
        assert_eq!(found.full.unwrap().total_us, 17);
        assert_eq!(parse_pressure(""), None);
    }

    #[test]
    fn reads_the_use_of_disks() {
        let found = disk_figures("254:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n254:0 \n");
        let expected = DiskFigures {
            device: "254:16".to_owned(),
            read_bytes: 1,
            write_bytes: 2,
            reads: 3,
            writes: 4,
        };
        assert_eq!(found[0], expected);
        assert_eq!(found[1].reads, 0);
    }

    #[test]
    fn knows_its_own_limit_of_files() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(open_files_limit(own) > 0);
        assert_eq!(open_files_limit(-1), 0);
        let figures = descriptor_figures(own, &[own, -1]);
        assert!(figures.open > 0);
    }
}
