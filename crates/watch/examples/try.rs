//! try
fn main() {
    let paths: Vec<std::path::PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    match palisade_watch::read_manifests(&paths) {
        Ok(o) => println!("{o:#?}"),
        Err(e) => println!("{e}"),
    }
}
