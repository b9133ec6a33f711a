//! Folders of `src/` may use each other only along the arrows of ARCHITECTURE.md's table.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Open to all: what every module may use, and the crate's root re-exports of it.
const OPEN: [&str; 4] = ["error", "atomic_file", "Error", "Result"];

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
fn rust_files(dir: &Path) -> Vec<PathBuf> {
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

/// `eval/task.rs` is module `eval::task`, `eval/mod.rs` is `eval`.
fn module(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.with_extension("").iter().map(|part| part.to_string_lossy().into()).collect();
    parts.pop_if(|last| last == "mod");
    parts
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
