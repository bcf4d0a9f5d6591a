//! Circles of files: `a.rs` names an item of `b.rs`, which names an item of `a.rs`, directly or through other files.
//!
//! A name that a file only re-exports belongs to the file that defines it. `a/b.rs` may name items of `a.rs`: a module and
//! its parent are one unit.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path from its crate's root.
type Path = Vec<String>;

/// The files of a crate, by module path.
pub(crate) struct Crate {
    files: BTreeMap<Path, File>,
}

struct File {
    name: String,
    /// The paths in it, as written, including those of `use`.
    paths: BTreeSet<Path>,
    /// The names that `use` imports, and the path of each.
    imports: BTreeMap<String, Path>,
}

impl Crate {
    /// Reads the sources below `directory`, without comments, strings and tests, by path from the repository's root.
    pub(crate) fn new(directory: &str, sources: BTreeMap<String, String>) -> Self {
        let file = |(name, code): (String, String)| {
            let inside = name.strip_prefix(directory)?.trim_start_matches('/').strip_suffix(".rs")?.to_owned();
            let path: Path = match inside.as_str() {
                "lib" | "main" => Path::new(),
                _ => inside.split('/').map(str::to_owned).collect(),
            };
            let (code, declarations) = without_imports(&code);
            let mut imports = BTreeMap::new();
            declarations.into_iter().for_each(|tree| spread(tree, &Path::new(), &mut imports));
            let paths = paths(&code).into_iter().chain(imports.values().cloned()).collect();
            Some((path, File { name, paths, imports }))
        };
        Self { files: sources.into_iter().filter_map(file).collect() }
    }

    /// The largest sets of files in which each file leads to all others.
    pub(crate) fn circles(&self) -> Vec<BTreeSet<&str>> {
        let edges: BTreeMap<&Path, BTreeSet<&Path>> =
            self.files.iter().map(|(path, file)| (path, self.named_in(path, file))).collect();
        let reached: BTreeMap<&Path, BTreeSet<&Path>> = edges.keys().map(|from| (*from, reach(from, &edges))).collect();
        let mut circles = BTreeSet::new();
        for (from, all) in reached.iter().filter(|(from, all)| all.contains(*from)) {
            let back = all.iter().filter(|to| reached[*to].contains(from));
            circles.insert(back.map(|path| self.files[*path].name.as_str()).collect::<BTreeSet<&str>>());
        }
        circles.into_iter().collect()
    }

    /// The files with items that this one names, without itself and its parents.
    fn named_in(&self, path: &Path, file: &File) -> BTreeSet<&Path> {
        let defining = file.paths.iter().filter_map(|written| self.definition(path, written, 0));
        defining.filter(|defining| !path.starts_with(defining)).collect()
    }

    /// The module with the item that a path in the module `at` names. None for an item of another crate, and for a
    /// module: only the items named through it count.
    fn definition(&self, at: &Path, written: &[String], depth: usize) -> Option<&Path> {
        // A name hidden by a glob import could lead back to itself.
        if depth > 20 {
            return None;
        }
        let (first, rest) = written.split_first()?;
        let mut module = at.clone();
        let mut rest = rest;
        match first.as_str() {
            "crate" => module.clear(),
            "self" => {}
            "super" => drop(module.pop()?),
            name => {
                module.push(name.to_owned());
                if !self.files.contains_key(&module) {
                    let import = self.files[at].imports.get(name).filter(|import| *import != written)?;
                    return self.definition(at, &[import.as_slice(), rest].concat(), depth + 1);
                }
            }
        }
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                module.pop()?;
            } else {
                module.push(next.clone());
                if !self.files.contains_key(&module) {
                    module.pop();
                    break;
                }
            }
            rest = after;
        }
        let name = rest.first()?;
        if let Some(import) = self.files.get(&module)?.imports.get(name)
            && (module != *at || import != written)
        {
            return self.definition(
                &module,
                &[import.as_slice(), rest.get(1..).unwrap_or_default()].concat(),
                depth + 1,
            );
        }
        self.files.get_key_value(&module).map(|(path, _)| path)
    }
}

fn reach<'a>(from: &Path, edges: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Path> = edges[from].iter().copied().collect();
    while let Some(next) = open.pop() {
        if let Some((known, onward)) = edges.get_key_value(next)
            && reached.insert(*known)
        {
            open.extend(onward.iter().copied());
        }
    }
    reached
}

/// Removes the `use` declarations from the code.
fn without_imports(code: &str) -> (String, Vec<&str>) {
    let (mut rest, mut declarations) = (String::new(), Vec::new());
    for statement in code.split_inclusive(';') {
        let is_part = |char: char| char.is_alphanumeric() || char == '_';
        let starts = |at: &usize| !statement[..*at].ends_with(is_part);
        let found = statement.match_indices("use ").map(|(at, _)| at).find(starts);
        let (before, declaration) = statement.split_at(found.unwrap_or(statement.len()));
        rest.push_str(before);
        declarations.extend(declaration.strip_prefix("use ").map(|tree| tree.trim_end_matches(';')));
    }
    (rest, declarations)
}

/// Expands the tree of a `use` declaration: the imported names, and the path of each.
fn spread(tree: &str, before: &Path, found: &mut BTreeMap<String, Path>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let before = [before.clone(), segments(head)].concat();
        let group = group.strip_suffix('}').unwrap_or(group);
        let mut depth = 0_i32;
        let parts = group.split(|char| {
            depth += i32::from(char == '{') - i32::from(char == '}');
            char == ',' && depth == 0
        });
        parts.filter(|part| !part.trim().is_empty()).for_each(|part| spread(part, &before, found));
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path = [before.clone(), segments(path)].concat();
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    // An import without a name is kept under one that no code can contain.
    let name = alias.or(path.last().map(String::as_str)).filter(|name| *name != "_" && *name != "*");
    found.insert(name.map_or_else(|| path.join("::"), str::to_owned), path);
}

fn segments(path: &str) -> Path {
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Every path of two segments or more.
fn paths(code: &str) -> BTreeSet<Path> {
    let is_part = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
    code.split(|char| !is_part(char)).map(segments).filter(|path| path.len() > 1).collect()
}
