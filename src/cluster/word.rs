//! What can be a word of a subject.

/// Whether a text of at most so many letters can be one word of a subject and part of a stream's name.
pub(super) fn is_word(text: &str, most: usize) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    !text.is_empty() && text.len() <= most && text.chars().all(fits)
}

/// Whether a text is so many hexadecimal digits, as names are that nobody chose.
pub(super) fn is_hexadecimal(text: &str, letters: usize) -> bool {
    text.len() == letters && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
