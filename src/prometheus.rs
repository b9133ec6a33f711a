//! Numbers as Prometheus reads them: its text exposition format, version 0.0.4.

use std::fmt::{Display, Write};

/// What an answer with them says that it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes a metric's lines: what it is, a `counter` or a `gauge`, and a value for each of its labels, which stand in braces or are none.
pub fn metric<V: Display>(
    text: &mut String,
    name: &str,
    [kind, help]: [&str; 2],
    values: impl IntoIterator<Item = (String, V)>,
) {
    let _ = writeln!(text, "# HELP criadero_{name} {help}\n# TYPE criadero_{name} {kind}");
    values.into_iter().for_each(|(labels, value)| _ = writeln!(text, "criadero_{name}{labels} {value}"));
}
