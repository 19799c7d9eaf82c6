//! Resource use, from the files of the container's cgroup.

use std::io;

use super::{
    cgroup::{Cgroup, value_of},
    sys,
};
use crate::{proto::ContainerStatsResponse, rootfs::LayerUsage};

/// `layer` is measured apart, since walking it may take long.
pub fn collect(cgroup: &Cgroup, layer: LayerUsage) -> io::Result<ContainerStatsResponse> {
    let cpu = cgroup.read("cpu.stat")?;
    // A controller may be missing; then its figures are 0.
    let memory = cgroup.read("memory.stat").unwrap_or_default();
    let single = |file: &str| cgroup.number(file).unwrap_or(0);
    let of_memory = |key: &str| value_of(&memory, key).unwrap_or(0);
    let usage = single("memory.current");
    Ok(ContainerStatsResponse {
        time_ns: sys::now_ns(),
        cpu_usage_ns: value_of(&cpu, "usage_usec").unwrap_or(0) * 1000,
        memory_usage_bytes: usage,
        memory_working_set_bytes: usage.saturating_sub(of_memory("inactive_file")),
        memory_rss_bytes: of_memory("anon"),
        memory_page_faults: of_memory("pgfault"),
        memory_major_page_faults: of_memory("pgmajfault"),
        // "max" is no number, and no limit.
        memory_limit_bytes: single("memory.max"),
        swap_usage_bytes: single("memory.swap.current"),
        pids: single("pids.current"),
        writable_layer_bytes: layer.bytes,
        writable_layer_inodes: layer.inodes,
    })
}
