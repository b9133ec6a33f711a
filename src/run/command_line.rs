//! Command lines as people can paste them.

/// The words of a command as a shell reads them, quoted where it would read something else.
pub fn command_line(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c));
    let quoted = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word of a command as others may read it: of paths from the root on, alone or behind what joins them to others, it has the last
/// parts, which say nothing of a machine.
pub fn placeless(word: &str) -> String {
    let joins = |c: char| "=:+,".contains(c);
    let (mut told, mut rest) = (String::new(), word);
    while !rest.is_empty() {
        // To where the next path begins: behind a joint, and not the `//` of an address.
        let next = rest
            .char_indices()
            .skip(1)
            .find(|&(at, c)| c == '/' && rest[..at].ends_with(joins) && !rest[at..].starts_with("//"));
        let (path, behind) = rest.split_at(next.map_or(rest.len(), |(at, _)| at));
        told.push_str(if path.starts_with('/') { last_part(path) } else { path });
        rest = behind;
    }
    told
}

/// What is behind the last slash that anything is behind.
fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().filter(|part| !part.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_a_shell_would_take_for_its_own() {
        let line = |words: &[&str]| command_line(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        assert_eq!(line(&["search", "a/b.yaml", "choice_nll:a+b"]), "search a/b.yaml choice_nll:a+b");
        assert_eq!(line(&["--to", "params<=1e8", "", "run#knee"]), "--to 'params<=1e8' '' 'run#knee'");
        assert_eq!(line(&["it's"]), "'it'\\''s'");
    }

    #[test]
    fn paths_say_nothing_of_the_machine() {
        let words = |words: &[&str]| words.iter().map(|word| placeless(word)).collect::<Vec<_>>();
        let given = [
            "search",
            "tiny",
            "/home/me/run#knee",
            "--data=/srv/d/",
            "x:/a/b.yaml+/c/d.jsonl+sciq",
            "params<=1e8",
            "/",
        ];
        let told = ["search", "tiny", "run#knee", "--data=d", "x:b.yaml+d.jsonl+sciq", "params<=1e8", "/"];
        assert_eq!(words(&given), told);
        let kept = ["results/mine", "../up/one", "hf://org/name@main", "org/name", "a/b:c/d", "", "it's"];
        assert_eq!(words(&kept), kept);
        assert_eq!(words(&["/é/ü"]), ["ü"]);
    }
}
