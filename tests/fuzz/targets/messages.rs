//! What comes from a server: a letter says as what it is read, a task, scores, an announcement or a status; what is read is used as far as
//! that goes without a server.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use criadero::cluster::{Announcement, ClassId, Costs, NumericClass, Roster, RunId, Scores, Status, Task, divided};
use criadero::eval::{ChunkId, EvalSet};
use criadero::run::{Experiment, RunSettings, mock_scorer};
use criadero_fuzz::space;
use libfuzzer_sys::fuzz_target;

/// A run's eval sets and settings.
struct Known {
    sets: Arc<Vec<EvalSet>>,
    settings: RunSettings,
    class: ClassId,
}

impl Known {
    fn new() -> Known {
        let experiment =
            Experiment { evals: 8, population: 4, ..Experiment::new("none", space(), ["choice_nll:t", "params"]) };
        let scorer = mock_scorer(&experiment, [16, 16], Duration::ZERO, Arc::default()).expect("it is made up");
        let settings = experiment.settings(&scorer);
        Known { sets: scorer.evaluator.sets().clone(), class: NumericClass::of(&settings).id(), settings }
    }
}

thread_local!(static KNOWN: Known = Known::new());

/// The digest of the search split stands for `DIGEST`, and the class of the run for `CLASS`, since nobody guesses them.
fn with_digest(data: &[u8], Known { sets, class, .. }: &Known) -> Vec<u8> {
    let text = String::from_utf8_lossy(data).replace("DIGEST", &sets[0].digest);
    text.replace("CLASS", &class.to_string()).into_bytes()
}

fuzz_target!(|data: &[u8]| KNOWN.with(|known @ Known { sets, settings, class }| match data.split_first() {
    Some((b't', data)) => {
        if let Ok(task) = Task::read(&with_digest(data, known), sets, &settings.space, class) {
            let tokens = |id: ChunkId| [sets[id.set].chunks[id.chunk].items.len(), 1];
            let _ = divided(vec![task.work], &Costs { shape: settings.space.shape(), tokens: &tokens }, 7);
        }
    }
    Some((b's', data)) => _ = Scores::read(&with_digest(data, known), sets),
    Some((b'a', data)) => {
        if let Ok(announcement) = Announcement::read("0123456789abcdef", data) {
            let _ =
                (announcement.refusal(settings), announcement.lease(), Experiment::of(&announcement.settings).tasks());
        }
    }
    Some((b'w', data)) => {
        if let Some(status) = Status::read(data) {
            let mut roster = Roster::default();
            roster.hear(status);
            let run = RunId::parse("0123456789abcdef").expect("16 digits");
            let _ = (roster.crews(&run), roster.of_run(&run));
        }
    }
    _ => {}
}));
