//! Text of strangers inside Markdown: it stands there as it is and begins nothing, whatever it holds.

/// A span of code, in prose and in the cells of tables; nothing for no text.
pub fn code(text: &str) -> String {
    let text = visible(text, "");
    if text.is_empty() {
        return text;
    }
    // A backtick would end the span, a bar the cell around it: as entities they are no syntax.
    if text.contains(['`', '|']) {
        let entity = |c: char| if c.is_alphanumeric() { c.to_string() } else { format!("&#{};", u32::from(c)) };
        return format!("<code>{}</code>", text.chars().map(entity).collect::<String>());
    }
    format!("`{text}`")
}

/// Lines of code in a language.
pub fn code_block(language: &str, text: &str) -> String {
    let text = visible(text, "\n");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}{language}\n{text}\n{fence}\n")
}

/// A table of cells that are Markdown; every row has as many as the header.
pub fn table<H: AsRef<str>>(header: &[H], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let rule = line(vec!["---"; header.len()]);
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    let header = line(header.iter().map(AsRef::as_ref).collect());
    [header, rule].into_iter().chain(rows).collect()
}

/// Text without what moves the cursor, turns the direction of a line or, but for what `keeps` names, ends it.
fn visible(text: &str, keeps: &str) -> String {
    let moves = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if moves(c) && !keeps.contains(c) { visible.extend(c.escape_default()) } else { visible.push(c) }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_code_holds_whatever_it_is_given() {
        assert_eq!(code("org/my_model-1.5"), "`org/my_model-1.5`");
        assert_eq!(code("a\n# b\u{202e}"), "`a\\n# b\\u{202e}`");
        assert_eq!(code("a|b`é"), "<code>a&#124;b&#96;é</code>");
        assert_eq!(code("`</code><b>"), "<code>&#96;&#60;&#47;code&#62;&#60;b&#62;</code>");
        assert_eq!(code(""), "");
    }

    #[test]
    fn a_block_of_code_ends_where_it_ends() {
        assert_eq!(code_block("sh", "one\ntwo\r"), "```sh\none\ntwo\\r\n```\n");
        assert_eq!(code_block("sh", "'````\n# x'"), "`````sh\n'````\n# x'\n`````\n");
    }

    #[test]
    fn a_table_has_a_line_a_row() {
        let rows = [vec![code("a|b"), "1".into()], vec![String::new(), "2".into()]];
        let expected = "| name | value |\n| --- | --- |\n| <code>a&#124;b</code> | 1 |\n|  | 2 |\n";
        assert_eq!(table(&["name", "value"], &rows), expected);
    }
}
