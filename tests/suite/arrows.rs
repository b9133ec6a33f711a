//! Folders of `src/` may use each other only along the arrows of ARCHITECTURE.md's table, and no files each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Open to all: what every module may use, and the crate's root re-exports of it.
const OPEN: [&str; 7] = ["count", "error", "last_words", "output", "sandbox", "Error", "Result"];

/// One use of another module: where, and the path after `crate::`.
#[derive(Debug, PartialEq)]
struct Use {
    line: usize,
    path: Vec<String>,
}

/// The table: what a folder, or one module of it, may use beside itself.
struct Arrows(BTreeMap<String, Vec<String>>);

impl Arrows {
    /// Reads the fenced block that follows the heading `## Arrows`.
    fn parse(markdown: &str) -> Arrows {
        let section = markdown.split("\n## Arrows\n").nth(1).expect("ARCHITECTURE.md has a section `## Arrows`");
        let block = section.split("```").nth(1).expect("a fenced block follows the heading");
        let rows = block.lines().filter_map(|line| line.split_once("->"));
        let words = |list: &str| list.split(',').map(str::trim).filter(|w| !w.is_empty()).map(String::from).collect();
        Arrows(rows.map(|(from, to)| (from.trim().to_string(), words(to))).collect())
    }

    /// Why `module` may not make this use, or nothing when it may.
    fn objection(&self, module: &[String], used: &Use) -> Option<String> {
        let target = &used.path[0];
        if *target == module[0] || OPEN.contains(&target.as_str()) {
            return None;
        }
        let Some(folder) = self.0.get(&module[0]) else {
            return Some(format!("`{}` has no row in the table", module[0]));
        };
        let own = self.0.get(&module.join("::")).filter(|_| module.len() > 1);
        let allowed: Vec<&String> = folder.iter().chain(own.into_iter().flatten()).collect();
        let path = used.path.join("::");
        let covers = |allowed: &str| path == allowed || path.strip_prefix(allowed).is_some_and(|s| s.starts_with("::"));
        if allowed.iter().any(|allowed| covers(allowed)) {
            return None;
        }
        let known = allowed.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
        Some(format!("`{}` may use: {}", module.join("::"), if known.is_empty() { "nothing" } else { &known }))
    }
}

/// A word or a piece of punctuation; comments and literals are gone.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    PathSeparator,
    Other(char),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Token::Word(word) => f.write_str(word),
            Token::PathSeparator => f.write_str("::"),
            Token::Other(other) => write!(f, "{other}"),
        }
    }
}

/// Rust source as tokens with their line numbers, from 1.
fn tokens(source: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = source.chars().collect();
    let starts = |at: usize, text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let find = |from: usize, text: &str| (from..chars.len()).find(|&at| starts(at, text)).unwrap_or(chars.len());
    let (mut found, mut line, mut at) = (Vec::new(), 1, 0);
    while at < chars.len() {
        let c = chars[at];
        let raw = (c == 'r').then(|| chars[at + 1..].iter().take_while(|&&c| c == '#').count());
        let next = if starts(at, "//") {
            find(at, "\n")
        } else if starts(at, "/*") {
            find(at + 2, "*/") + 2
        } else if let Some(hashes) = raw.filter(|hashes| chars.get(at + 1 + hashes) == Some(&'"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            find(at + hashes + 2, &end) + end.len()
        } else if c == '"' {
            let mut end = at + 1;
            while end < chars.len() && chars[end] != '"' {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            end + 1
        } else if c == '\'' && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')) {
            // A character literal; a lifetime has no closing quote there.
            find(at + if chars[at + 1] == '\\' { 3 } else { 2 }, "'") + 1
        } else if c.is_alphanumeric() || c == '_' {
            let length = chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            found.push((line, Token::Word(chars[at..at + length].iter().collect())));
            at + length
        } else if starts(at, "::") {
            found.push((line, Token::PathSeparator));
            at + 2
        } else {
            if !c.is_whitespace() {
                found.push((line, Token::Other(c)));
            }
            at + 1
        };
        let next = next.min(chars.len());
        line += chars[at..next].iter().filter(|&&c| c == '\n').count();
        at = next;
    }
    found
}

/// All paths of a use tree (or of one path in code) whose tokens start after `prefix::`; returns the tokens read.
fn tree(tokens: &[(usize, Token)], prefix: &[String], uses: &mut Vec<Use>) -> usize {
    let Some((line, first)) = tokens.first() else { return 0 };
    if *first == Token::Other('{') {
        let mut at = 1;
        while at < tokens.len() && tokens[at].1 != Token::Other('}') {
            let separator = matches!(tokens[at].1, Token::Other(_)) && tokens[at].1 != Token::Other('*');
            at += if separator { 1 } else { tree(&tokens[at..], prefix, uses).max(1) };
        }
        return at + 1;
    }
    let mut path = prefix.to_vec();
    path.push(first.to_string());
    if tokens.get(1).is_some_and(|(_, token)| *token == Token::PathSeparator)
        && tokens.get(2).is_some_and(|(_, t)| matches!(t, Token::Word(_) | Token::Other('{') | Token::Other('*')))
    {
        return 2 + tree(&tokens[2..], &path, uses);
    }
    let renamed = matches!(tokens.get(1), Some((_, Token::Word(word))) if word == "as");
    uses.push(Use { line: *line, path });
    if renamed { 3 } else { 1 }
}

/// Every `crate::…` path of a source file, and `super::…` where `root` says that `super` is the crate's root.
fn uses(source: &str, root: bool) -> Vec<Use> {
    let tokens = tokens(source);
    let mut uses = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let starts = matches!(&pair[0].1, Token::Word(word) if word == "crate" || (word == "super" && root));
        if starts && pair[1].1 == Token::PathSeparator {
            tree(&tokens[at + 2..], &[], &mut uses);
        }
    }
    uses
}

/// All Rust files under a directory, sorted.
pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// `eval/walk.rs` is module `eval::walk`, `eval/mod.rs` is `eval`.
fn module(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.with_extension("").iter().map(|part| part.to_string_lossy().into()).collect();
    parts.pop_if(|last| last == "mod");
    parts
}

/// A source without its tests, which may use whatever they like.
pub fn without_tests(source: &str) -> &str {
    let tests = source.match_indices("\n#[cfg(test)]\n").find(|(at, mark)| {
        let next = source[at + mark.len()..].lines().next().unwrap_or_default();
        next.contains("mod tests {")
    });
    tests.map_or(source, |(at, _)| &source[..at])
}

/// What a file uses and what it hands on, as whole paths from the crate's root.
#[derive(Default)]
struct Paths {
    used: Vec<Vec<String>>,
    /// Of `pub use` in a `mod.rs`: these are no uses of its own.
    handed_on: Vec<Vec<String>>,
}

/// Resolves `crate::` and `super::` wherever they stand, and in a `mod.rs` also the paths of `use` that begin with one of the
/// folder's own modules.
fn paths(source: &str, module: &[String], is_folder: bool, modules: &BTreeSet<Vec<String>>) -> Paths {
    let tokens = tokens(without_tests(source));
    let word = |at: usize| match tokens.get(at) {
        Some((_, Token::Word(word))) => Some(word.as_str()),
        _ => None,
    };
    let separated = |at: usize| tokens.get(at).is_some_and(|(_, token)| *token == Token::PathSeparator);
    let mut paths = Paths::default();
    for at in 0..tokens.len() {
        if at > 0 && separated(at - 1) {
            continue;
        }
        let (mut base, mut next) = (module.to_vec(), at);
        match word(at) {
            Some("crate") if separated(at + 1) => (base, next) = (Vec::new(), at + 2),
            Some("super") if separated(at + 1) => {
                while word(next) == Some("super") && separated(next + 1) {
                    (_, next) = (base.pop(), next + 2);
                }
            }
            Some(first) if is_folder && at > 0 && word(at - 1) == Some("use") && separated(at + 1) => {
                if !modules.contains(&[module, &[first.to_string()]].concat()) {
                    continue;
                }
            }
            _ => continue,
        }
        let mut found = Vec::new();
        tree(&tokens[next..], &base, &mut found);
        // `pub use`, `pub(crate) use`.
        let public = at > 1
            && word(at - 1) == Some("use")
            && (word(at - 2) == Some("pub") || tokens[at - 2].1 == Token::Other(')'));
        let into = if is_folder && public { &mut paths.handed_on } else { &mut paths.used };
        into.extend(found.into_iter().map(|used| used.path));
    }
    paths
}

/// The module that a path leads to: the longest one that it begins with, or whence a folder has what it hands on.
fn leads_to(
    path: &[String],
    modules: &BTreeSet<Vec<String>>,
    handed_on: &BTreeMap<Vec<String>, Vec<String>>,
) -> Option<Vec<String>> {
    let module = (1..=path.len()).rev().map(|end| &path[..end]).find(|start| modules.contains(*start))?;
    match path.get(..module.len() + 1).and_then(|item| handed_on.get(item)) {
        Some(origin) if origin[..] != path[..module.len() + 1] => leads_to(origin, modules, handed_on),
        _ => Some(module.to_vec()),
    }
}

/// The modules that each module uses.
fn uses_of_modules(sources: &[(Vec<String>, bool, String)]) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|(module, ..)| module.clone()).collect();
    let all: Vec<(&Vec<String>, Paths)> =
        sources.iter().map(|(module, folder, source)| (module, paths(source, module, *folder, &modules))).collect();
    let mut handed_on = BTreeMap::new();
    for (module, paths) in &all {
        for path in &paths.handed_on {
            let name = path.last().expect("a path has a last part").clone();
            handed_on.insert([&module[..], &[name]].concat(), path.clone());
        }
    }
    let targets = |(module, paths): (&Vec<String>, Paths)| {
        let targets = paths.used.iter().filter_map(|path| leads_to(path, &modules, &handed_on));
        (module.clone(), targets.filter(|target| target != module).collect())
    };
    all.into_iter().map(targets).collect()
}

/// A way from a module through others back to it; nothing where there is none.
fn circle(uses: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Option<Vec<Vec<String>>> {
    let mut done = BTreeSet::new();
    for start in uses.keys() {
        // Each step of the way and the modules it has still to try.
        let mut way = vec![(start, uses[start].iter())];
        while let Some((module, left)) = way.last_mut() {
            match left.next() {
                Some(next) if done.contains(next) || !uses.contains_key(next) => {}
                Some(next) => {
                    if let Some(first) = way.iter().position(|(module, _)| *module == next) {
                        return Some(way[first..].iter().map(|(module, _)| module.to_vec()).collect());
                    }
                    let (next, of_next) = uses.get_key_value(next).expect("looked up above");
                    way.push((next, of_next.iter()));
                }
                None => {
                    done.insert(module.to_vec());
                    way.pop();
                }
            }
        }
    }
    None
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources: Vec<(Vec<String>, bool, String)> = rust_files(&src)
        .into_iter()
        .filter(|file| !["lib.rs", "main.rs"].iter().any(|root| *file == src.join(root)))
        .map(|file| {
            (module(file.strip_prefix(&src).unwrap()), file.ends_with("mod.rs"), fs::read_to_string(&file).unwrap())
        })
        .collect();
    if let Some(circle) = circle(&uses_of_modules(&sources)) {
        let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
        panic!("{} -> {}: what both need belongs in a file of its own", names.join(" -> "), names[0]);
    }
}

#[test]
fn a_circle_is_seen_through_what_a_folder_hands_on() {
    let file = |name: &str, folder: bool, source: &str| {
        (name.split("::").map(String::from).collect::<Vec<_>>(), folder, source.to_string())
    };
    let folder = file("a", true, "mod b; mod c; pub use b::{B, Other};");
    let c = file("a::c", false, "use super::b::x; fn f() {}");
    let circle_of = |b: &str| circle(&uses_of_modules(&[folder.clone(), file("a::b", false, b), c.clone()]));
    assert_eq!(circle_of("use crate::error::Error;\n#[cfg(test)]\nmod tests {\n    use crate::a::c::C;\n}"), None);
    assert!(circle_of("use super::c::C;").is_some());
    let d = file("d", false, "use crate::a::B; use crate::e::E;");
    let e = file("e", false, "fn f() { crate::d::g() }");
    let found = circle(&uses_of_modules(&[folder.clone(), file("a::b", false, ""), d, e.clone()])).unwrap();
    assert_eq!(found, [vec!["d".to_string()], vec!["e".to_string()]]);
    let b = file("a::b", false, "use crate::e::E;");
    let through = file("d", false, "use crate::a::B;");
    assert!(circle(&uses_of_modules(&[folder, b, through, e])).is_some(), "d -> a::b -> e -> d");
}

#[test]
fn folders_use_each_other_only_along_the_arrows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arrows = Arrows::parse(&fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let src = root.join("src");
    let mut objections = Vec::new();
    for file in rust_files(&src) {
        let module = module(file.strip_prefix(&src).unwrap());
        // The crate's roots only list modules; cli/ is in the binary and may use everything, as `criadero::`.
        if ["lib", "main", "cli"].contains(&module[0].as_str()) {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        for used in uses(&source, false) {
            if let Some(objection) = arrows.objection(&module, &used) {
                let path = used.path.join("::");
                objections.push(format!("{}:{}: crate::{path}: {objection}", file.display(), used.line));
            }
        }
        // Where `super` is the crate's root it would be an arrow in disguise.
        let folders = |used: &Use| arrows.0.contains_key(&used.path[0]) && used.path[0] != module[0];
        if file.ends_with("mod.rs") || module.len() == 1 {
            let hidden = uses(&source, true).into_iter().filter(folders);
            let hidden = hidden.filter(|used| arrows.objection(&module, used).is_some());
            objections.extend(hidden.map(|used| {
                format!("{}:{}: super::{}: write crate::", file.display(), used.line, used.path.join("::"))
            }));
        }
    }
    assert!(objections.is_empty(), "new arrows between folders:\n{}", objections.join("\n"));
}

#[test]
fn an_arrow_that_is_not_in_the_table_is_seen() {
    let arrows = Arrows::parse("\n## Arrows\n```\nspace ->\nsearch -> space\nsearch::run -> eval::Score\n```\n");
    let objection = |module: &str, source: &str| {
        let module: Vec<String> = module.split("::").map(String::from).collect();
        uses(source, false).iter().find_map(|used| arrows.objection(&module, used))
    };
    assert_eq!(objection("search::nsga2", "use crate::{error::Error, space::Genome};"), None);
    assert_eq!(objection("search::run", "use crate::eval::{Score as Grade};"), None);
    assert_eq!(
        objection("search::run", "use crate::eval::*;"),
        Some("`search::run` may use: space, eval::Score".into())
    );
    assert_eq!(objection("search::nsga2", "use crate::eval::Score;"), Some("`search::nsga2` may use: space".into()));
    assert_eq!(
        objection("space::cost", "let x = crate::search::seed();"),
        Some("`space::cost` may use: nothing".into())
    );
    assert_eq!(objection("plot", "use crate::space::Gene;"), Some("`plot` has no row in the table".into()));
}

#[test]
fn reads_grouped_renamed_and_inline_paths_and_no_comments_or_literals() {
    let source = r##"
        //! [`crate::comment`]
        use crate::a::{b, c::{D, E as F}, *};
        /* use crate::block; */
        const X: (&str, &str, char) = ("use crate::text \" ", r#"crate::"raw" "#, '"');
        fn f<'a>(x: &'a str) { crate::g::<u8>::h(); crate::i::j(x) }
        pub(crate) use crate::k;
    "##;
    let found: Vec<(usize, String)> = uses(source, false).into_iter().map(|u| (u.line, u.path.join("::"))).collect();
    let expected = ["3 a::b", "3 a::c::D", "3 a::c::E", "3 a::*", "6 g", "6 i::j", "7 k"];
    assert_eq!(found.iter().map(|(line, path)| format!("{line} {path}")).collect::<Vec<_>>(), expected);
    assert_eq!(uses("use super::eval::X;", true)[0].path, ["eval", "X"]);
}
