//! perf
fn main() {
    let paths: Vec<std::path::PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let start = std::time::Instant::now();
    let o = palisade_watch::read_manifests(&paths).unwrap();
    eprintln!("{} pods {} policies {:?}", o.pods.len(), o.policies.len(), start.elapsed());
}
