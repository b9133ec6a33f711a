//! All pictures of a run, in the order in which a reader wants them.

use super::front::{Against, front};
use super::heatmap::heatmap;
use super::hypervolume::{Run, hypervolumes};
use super::picture::Picture;
use super::probabilities::probabilities;
use crate::error::{Error, Result};
use crate::run::Front;

/// What the names of pictures of scores against size begin with.
const FRONT: &str = "front";

/// One picture with its place in the album.
#[derive(Clone, Debug)]
pub struct Page {
    /// The name of its files, without extension.
    pub stem: String,
    /// What the reader should see in it.
    pub caption: String,
    /// The picture.
    pub picture: Picture,
}

/// The pictures of a run.
#[derive(Clone, Debug)]
pub struct Album {
    /// In reading order.
    pub pages: Vec<Page>,
}

impl Album {
    /// Draws everything there is to see of a run: its held-out scores against size and throughput, what its networks
    /// keep, and how it came there beside `others`.
    ///
    /// Errors: the front is empty; another run has other objectives.
    pub fn new(result: &Front, run: Run, others: &[Run]) -> Result<Album> {
        if result.points.is_empty() {
            return Err(Error::invalid(
                format!("front of {}", run.name),
                format!("no points after {} evaluations", result.evaluations),
                "at least one network that did not fail and breaks no constraint",
            ));
        }
        let mut pages = Vec::new();
        let mut add = |stem: String, caption: &str, picture: Picture| {
            pages.push(Page { stem, caption: caption.into(), picture });
        };
        for (score, suffix) in suffixes(result).into_iter().enumerate() {
            let caption = "Scores on items that the search never saw, each with one standard error. Two networks whose \
                           bars overlap by much are not known to differ; the paired difference in the table is the \
                           sharper test.";
            let size = front(result, score, Against::size(result), Some(run.evaluations))?;
            add(format!("{FRONT}{suffix}"), caption, size);
            for (stem, against) in [("throughput", Against::Throughput), ("decode", Against::Decode)] {
                if result.points.iter().any(|point| against.of(point).is_some()) {
                    let caption = "The same scores against measured throughput, which size alone does not predict.";
                    add(format!("{stem}{suffix}"), caption, front(result, score, against, None)?);
                }
            }
        }
        let caption = "Every network of the front, layer by layer.";
        add("heatmap".into(), caption, heatmap(result)?);
        let caption = "The share of the front's networks that makes each choice: layers where the front agrees, and \
                       layers that do not matter.";
        add("probabilities".into(), caption, probabilities(result)?);
        let runs: Vec<Run> = std::iter::once(run).chain(others.iter().copied()).collect();
        let caption = "How much of the objective space the networks found so far dominate, on the search items: they \
                       flatter the winners, so curves compare searches, not networks.";
        add("hypervolume".into(), caption, hypervolumes(result, &runs)?);
        Ok(Album { pages })
    }
}

/// What the pictures of a front's scores against size are called, without ending.
pub fn front_stems(front: &Front) -> Vec<String> {
    suffixes(front).into_iter().map(|suffix| format!("{FRONT}{suffix}")).collect()
}

/// What the names of pictures of each score that is drawn end with: each task's accuracy; where there is no task, the first score
/// there is.
fn suffixes(front: &Front) -> Vec<String> {
    let scores = front.chance.len().max(1).min(front.parent.held_out.len());
    let suffix = |name: &str| if scores > 1 { format!("-{}", file_name(name)) } else { String::new() };
    front.parent.held_out.iter().take(scores).map(|held_out| suffix(&held_out.name)).collect()
}

/// `name` with what a file name cannot hold everywhere replaced.
fn file_name(name: &str) -> String {
    let keeps = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.chars().map(|c| if keeps(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn draws_every_picture_of_any_front() {
        for (layers, points) in [(30, 12), (4, 1), (80, 60), (1, 2)] {
            let (mut front, evaluations) = fixture::run(layers, points);
            for point in front.points.iter_mut().chain([&mut front.parent]) {
                let tps = point.value("prefill_tps").unwrap();
                point.values.set("decode_tps", tps / 20.0);
            }
            let run = Run { name: "run", evaluations: &evaluations };
            let album = Album::new(&front, run, &[run]).unwrap();
            let stems: Vec<&str> = album.pages.iter().map(|page| page.stem.as_str()).collect();
            assert_eq!(stems, ["front", "throughput", "decode", "heatmap", "probabilities", "hypervolume"]);
            for page in &album.pages {
                assert!(page.picture.svg.contains("SmolLM2-135M"), "{} says which model", page.stem);
                assert!(page.picture.svg.len() < 1_000_000, "{}: {} bytes", page.stem, page.picture.svg.len());
            }
        }
    }

    #[test]
    fn an_empty_front_is_an_error() {
        let (front, evaluations) = fixture::run(4, 0);
        let error = Album::new(&front, Run { name: "run", evaluations: &evaluations }, &[]).unwrap_err().to_string();
        assert!(error.starts_with("front of run: found no points after 1 evaluations"), "{error}");
    }

    #[test]
    fn several_tasks_have_a_picture_each() {
        let (mut front, evaluations) = fixture::run(4, 3);
        front.chance = vec![0.25, 0.5];
        for point in front.points.iter_mut().chain([&mut front.parent]) {
            point.values.remove("prefill_tps");
            point.held_out[1].name = "accuracy:a/b".into();
        }
        let album = Album::new(&front, Run { name: "run", evaluations: &evaluations }, &[]).unwrap();
        assert_eq!(album.pages[0].stem, "front-accuracy-arc_easy");
        assert_eq!(album.pages[1].stem, "front-accuracy-a-b");
    }

    #[test]
    fn hostile_numbers_do_not_panic() {
        let (mut front, mut evaluations) = fixture::run(4, 3);
        front.parent.values.set("params", 0.0);
        front.parent.values.set("choice_nll:arc_easy", 0.0);
        front.chance = vec![0.0];
        front.points[0].values.set("params", u64::MAX as f64);
        front.points[1].held_out[0].value = f64::MAX;
        front.points[2].held_out[0].stderr = -1.0;
        front.points[2].values.set("prefill_tps", 0.0);
        evaluations.rows[1].objectives = vec![f64::NAN, f64::INFINITY];
        evaluations.rows[2].search_accuracy = vec![f64::NAN];
        // It may draw nonsense or refuse; it may not crash.
        let _ = Album::new(&front, Run { name: "run", evaluations: &evaluations }, &[]);
    }
}
