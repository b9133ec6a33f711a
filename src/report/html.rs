//! `report.html`: one page that holds all of a run, without anything to load; and the same page before a server.

use std::fmt::{Result, Write as _};

use super::album::{Album, Page};
use super::explore::{self, Answering};
use super::front::Against;
use super::table::Table;
use super::units;
use crate::run::Front;
use crate::space::{Genome, ModelShape};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#222;--muted:#666;--line:#e2e2e2;--accent:#0072b2;--second:#d55e00;--page:#fff;--soft:#f6f7f8}\
@media (prefers-color-scheme:dark){:root{--ink:#e8e8e8;--muted:#a3a8ad;--line:#3b4046;--accent:#56b4e9;--second:#e69f00;--page:#15171a;--soft:#1e2125}}\
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:1040px;color:var(--ink);background:var(--page);\
font:16px/1.55 'Noto Sans',system-ui,sans-serif}\
h1{font-size:1.8rem;line-height:1.2;margin:0 0 .25rem}h2{font-size:1.25rem;margin:2.6rem 0 .6rem}\
p,li{max-width:46rem}.lead{color:var(--muted);margin:0 0 1.5rem}\
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.75rem;margin:0;padding:0}\
.facts div{border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}\
.facts dt{color:var(--muted);font-size:.85rem}.facts dd{margin:0;font-size:1.35rem}\
figure{margin:1.5rem 0 2.5rem}figure svg{width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:8px}\
figcaption{color:var(--muted);font-size:.93rem;max-width:46rem;margin-top:.4rem}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}\
th,td{padding:.35rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\
th{color:var(--muted);font-weight:600;white-space:normal;vertical-align:bottom}\
th:last-child,td:last-child{text-align:left}tr.dominated td{color:var(--muted)}tr.knee td,tr.parent td{font-weight:600}\
pre{background:var(--soft);border-radius:8px;padding:.9rem 1rem;overflow-x:auto;font-size:.88rem;line-height:1.45}\
code{font-family:ui-monospace,'DejaVu Sans Mono',monospace}summary{cursor:pointer;color:var(--accent)}\
dl.notes dt{font-weight:600;margin-top:.7rem}dl.notes dd{margin:0;max-width:46rem}\
@media print{figure{break-inside:avoid}}";

/// What the columns mean, said once and honestly.
/// What a mean over budgets is called behind its score's name.
const OVER_BUDGETS: &str = "over budgets";

const NOTES: [(&str, &str); 7] = [
    (
        "(search)",
        "measured on the search split, the items by which networks were chosen. The best of many is flattered by luck: \
         do not quote these.",
    ),
    (
        "(held-out)",
        "measured again on items that no choice depended on, with one standard error of the mean over items.",
    ),
    (
        "to parent",
        "the mean of the differences to the parent on the same held-out items, with its standard error. Smaller than \
         about two errors is not distinguishable from none.",
    ),
    (
        "dominated on held-out",
        "another point of the front is at least as good in every held-out score and size, and better in one. The front \
         is that of the search items and is not filtered again.",
    ),
    ("knee", "the point farthest from the chord between the extremes of the front, on normalised search objectives."),
    (
        "params, weights",
        "parameters of the mathematical network, and bytes of the GGUF file that it exports to, fillers included.",
    ),
    (
        OVER_BUDGETS,
        "the held-out score of the network that the search found best within a budget, the mean over all budgets from the space's smallest \
         network to the parent. A budget for which there is no network counts as guessing.",
    ),
];

/// The page. `run` is the run's directory as the user would type it, `command` what made it, `settings` the text of its `run.json`.
/// With a server behind it, its networks write, too.
pub fn page(
    front: &Front,
    album: &Album,
    run: &str,
    [command, settings]: [Option<&str>; 2],
    answering: Option<&Answering>,
) -> String {
    let mut html = String::new();
    let report = Report { front, album, run, command, settings, answering };
    report.write(&mut html).expect("writing to a string cannot fail");
    html
}

/// The page of a model alone, before a server.
pub fn page_of_model(shape: &ModelShape, genome: &Genome, answering: &Answering) -> String {
    let name = escaped(answering.name);
    let section = explore::of_model(shape, genome, answering);
    format!("{}<h1>{name}</h1>\n{section}</body>\n</html>\n", beginning(&name))
}

/// A page up to its body.
fn beginning(title: &str) -> String {
    let more = explore::STYLE.replace('\n', "");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}{more}</style>\n</head>\n<body>\n"
    )
}

/// What the page is written from, section by section.
struct Report<'a> {
    front: &'a Front,
    album: &'a Album,
    run: &'a str,
    command: Option<&'a str>,
    settings: Option<&'a str>,
    answering: Option<&'a Answering<'a>>,
}

impl Report<'_> {
    fn write(&self, html: &mut String) -> Result {
        let figures: Vec<String> = self.album.pages.iter().map(figure).collect();
        let (first, others) = figures.split_at(figures.len().min(1));
        self.head(html)?;
        self.facts(html)?;
        html.push_str(&explore::of_front(self.front, self.run, self.answering));
        html.extend(first.iter().map(String::as_str));
        self.table(html)?;
        notes(html)?;
        html.push_str("<h2>How it came about</h2>\n");
        html.extend(others.iter().map(String::as_str));
        self.genomes(html)?;
        self.usage(html)?;
        html.push_str("</body>\n</html>\n");
        Ok(())
    }

    fn head(&self, html: &mut String) -> Result {
        let (model, run) = (escaped(&self.front.model), escaped(self.run));
        let objectives: Vec<&str> = self.front.objectives.iter().map(|column| column.name.as_str()).collect();
        html.push_str(&beginning(&format!("{model}: Pareto front")));
        writeln!(
            html,
            "<h1>{model}: small networks bred from a large one</h1>\n\
             <p class=\"lead\">Optimised: {}. Run <code>{run}</code>.</p>",
            escaped(&objectives.join(", "))
        )
    }

    fn facts(&self, html: &mut String) -> Result {
        let front = self.front;
        let size = Against::size(front);
        let smallest = front.points.iter().min_by_key(|point| size.whole(point)).unwrap_or(&front.parent);
        let dominated = front.points.iter().filter(|point| point.dominated_on_held_out).count();
        let facts = [
            ("networks evaluated", units::thousands(front.evaluations as f64)),
            ("on the front", front.points.len().to_string()),
            ("dominated on held-out", dominated.to_string()),
            ("parent", size.text(&front.parent)),
            ("smallest", size.text(smallest)),
        ];
        let worth = front.over_budgets.iter().flat_map(|over| &over.scores);
        let worth =
            worth.map(|score| (format!("{} {OVER_BUDGETS}", score.name), units::with_error(score.value, score.stderr)));
        let facts = facts.into_iter().map(|(name, value)| (name.to_string(), value));
        html.push_str("<dl class=\"facts\">\n");
        for (name, value) in facts.chain(worth) {
            let name = escaped(&name);
            writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
        }
        html.push_str("</dl>\n");
        Ok(())
    }

    fn table(&self, html: &mut String) -> Result {
        let accuracies = self.front.accuracies(&self.front.parent);
        let tasks: Vec<String> =
            accuracies.iter().map(|score| format!("{} ({} items)", score.name, score.items)).collect();
        html.push_str("<h2>The front</h2>\n");
        if !tasks.is_empty() {
            writeln!(html, "<p>Held-out items: {}.</p>", escaped(&tasks.join(", ")))?;
        }
        html.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
        let table = Table::new(self.front);
        for name in &table.header {
            write!(html, "<th>{}</th>", escaped(name))?;
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &table.rows {
            let marks = row.last().map_or("", String::as_str);
            let kind = ["dominated", "parent", "knee"].into_iter().find(|kind| marks.contains(kind)).unwrap_or("plain");
            write!(html, "<tr class=\"{kind}\">")?;
            for cell in row {
                write!(html, "<td>{}</td>", escaped(cell))?;
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        Ok(())
    }

    fn genomes(&self, html: &mut String) -> Result {
        html.push_str(
            "<h2>Genomes</h2>\n<details><summary>one line a network: HEADSxMLP of each layer from the input on, - for a \
             dropped layer, *N for N alike</summary>\n<pre>",
        );
        for point in &self.front.points {
            writeln!(html, "{:>5}  {}", point.id, escaped(&point.genome.to_string()))?;
        }
        html.push_str("</pre></details>\n");
        Ok(())
    }

    fn usage(&self, html: &mut String) -> Result {
        let run = escaped(self.run);
        let made =
            self.command.map_or(String::new(), |command| format!("<p>Made by</p>\n<pre>{}</pre>\n", escaped(command)));
        write!(
            html,
            "<h2>Repeat and use it</h2>\n{made}\
             <pre>criadero export {run} --pick knee --format gguf --out knee.gguf\n\
             criadero export {run} --pick ID --format hf --out DIR\n\
             criadero plot {run} OTHER-RUN\n\
             criadero search SPACE --seed-genomes {run} ...</pre>\n\
             <p>The command that made this run, given again, resumes or repeats it: the same settings and seed give the \
             same evaluations, byte for byte, on the same kind of device. With a larger <code>--evals</code> it goes on.</p>\n"
        )?;
        let Some(settings) = self.settings else { return Ok(()) };
        write!(
            html,
            "<details><summary>run.json: everything that is needed to repeat it</summary>\n<pre>{}</pre></details>\n",
            escaped(settings.trim())
        )
    }
}

fn figure(page: &Page) -> String {
    let (svg, caption) = (page.picture.svg.trim(), escaped(&page.caption));
    format!("<figure id=\"{}\">\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>\n", escaped(&page.stem))
}

fn notes(html: &mut String) -> Result {
    html.push_str("<h2>What the words mean</h2>\n<dl class=\"notes\">\n");
    for (term, meaning) in NOTES {
        writeln!(html, "<dt>{term}</dt><dd>{meaning}</dd>")?;
    }
    html.push_str("</dl>\n");
    Ok(())
}

/// Text as HTML text or attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::hypervolume::Run;

    #[test]
    fn holds_every_picture_and_row_and_loads_nothing() {
        let (front, evaluations) = fixture::run(4, 5);
        let album = Album::new(&front, Run { name: "run", evaluations: &evaluations }, &[]).unwrap();
        let html = page(&front, &album, "results/run", [Some("criadero search '<x>'"), Some("{\"seed\": 7}")], None);
        assert_eq!(html.matches("<svg").count(), album.pages.len());
        assert_eq!(html.matches("<tr").count(), 1 + front.points.len() + 1);
        assert!(html.contains("{&quot;seed&quot;: 7}"));
        for loads in ["<link", "<img", "src=", "@import", "url("] {
            assert!(!html.contains(loads), "{loads}");
        }
        for tag in ["figure", "table", "details", "dl", "body"] {
            let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn names_are_text_not_markup() {
        let (mut front, evaluations) = fixture::run(4, 3);
        front.model = "<script>alert('x')</script>".into();
        let album = Album::new(&front, Run { name: "<b>", evaluations: &evaluations }, &[]).unwrap();
        let html = page(&front, &album, "\"><i>", [None, None], Some(&Answering { name: "</script><i>", key: true }));
        assert!(!html.contains("<script>") && !html.contains("<b>") && !html.contains("<i>"));
    }
}
