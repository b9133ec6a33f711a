//! The documents: the first page is short, and every link, target and script that they name is there.
//!
//! Their commands are parsed by a test of `src/cli/mod.rs`, and run on a tiny model by `tests/newcomer.sh`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the first page may take.
const README_BYTES: usize = 7_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages of a folder and of those in it.
fn pages_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = entries.flat_map(|path| if path.is_dir() { pages_of(&path) } else { vec![path] });
    pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Every page that users read.
fn pages() -> Vec<PathBuf> {
    let first = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root().join(name));
    first.into_iter().chain(pages_of(&root().join("docs"))).collect()
}

/// A page without its fenced blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Where its links lead, but for those into the web.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let links = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_string()));
    links.filter(|link| !link.starts_with("http")).collect()
}

/// The place that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept =
        heading.trim().to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    prose.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The file of a link, and the heading in it.
fn target(page: &Path, link: &str) -> (PathBuf, Option<String>) {
    let (file, heading) =
        link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading.to_string())));
    let path = if file.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(file) };
    (path, heading)
}

/// What a page says in code: lines of its blocks, and spans of its prose.
fn code(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2).flat_map(str::lines).map(String::from);
    let prose = prose(text);
    let spans: Vec<String> = prose.split('`').skip(1).step_by(2).map(String::from).collect();
    blocks.chain(spans).collect()
}

#[test]
fn the_first_page_is_short() {
    let bytes = read(&root().join("README.md")).len();
    assert!(
        bytes <= README_BYTES,
        "README.md has {bytes} bytes, more than {README_BYTES}: move what explains to docs/guide/"
    );
}

#[test]
fn every_link_leads_to_a_file_and_its_heading() {
    let mut wrong = Vec::new();
    for page in pages() {
        for link in links(&read(&page)) {
            let (path, heading) = target(&page, &link);
            let is_there = path.exists() && heading.is_none_or(|heading| anchors(&read(&path)).contains(&heading));
            if !is_there {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_is_linked_from_another_one() {
    let mut linked = BTreeSet::new();
    for page in pages() {
        let targets = links(&read(&page)).into_iter().map(|link| target(&page, &link).0);
        linked.extend(targets.filter_map(|path| path.canonicalize().ok()).filter(|path| *path != page));
    }
    let lost: Vec<PathBuf> = pages_of(&root().join("docs"))
        .into_iter()
        .filter(|page| !linked.contains(&page.canonicalize().unwrap()))
        .collect();
    assert!(lost.is_empty(), "pages that no other one links to: {lost:?}");
}

#[test]
fn every_target_and_script_in_code_is_there() {
    let makefile = read(&root().join("Makefile"));
    let mut wrong = Vec::new();
    for page in pages() {
        for line in code(&read(&page)) {
            if let Some(rest) = line.strip_prefix("make ") {
                let name = rest.split_whitespace().next().unwrap_or_default();
                let rule = format!("{name}:");
                if !makefile.lines().any(|line| line.starts_with(&rule)) {
                    wrong.push(format!("{}: make {name}", page.display()));
                }
            }
            let scripts =
                line.split_whitespace().filter(|word| word.starts_with("scripts/") || word.starts_with("tests/"));
            let missing = scripts.filter(|path| !root().join(path).exists());
            wrong.extend(missing.map(|path| format!("{}: {path}", page.display())));
        }
    }
    assert!(wrong.is_empty(), "named, and not there:\n{}", wrong.join("\n"));
}

#[test]
fn the_newcomer_follows_every_page_of_the_guide() {
    let script = read(&root().join("tests/newcomer.sh"));
    let list = script.lines().find(|line| line.starts_with("pages=(")).expect("the script lists its pages");
    let followed: Vec<&str> = list.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
    for page in pages_of(&root().join("docs/guide")) {
        let name = page.file_stem().unwrap().to_str().unwrap();
        assert!(
            !read(&page).contains("```sh") || followed.contains(&name),
            "tests/newcomer.sh does not follow {name}.md"
        );
    }
}
