//! Command lines as people can paste them.

/// The words of a command as a shell reads them, quoted where it would read something else.
pub fn command_line(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c));
    let quoted = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
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
}
