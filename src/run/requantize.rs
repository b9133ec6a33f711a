//! The networks of a finished front, or of one model, scored again after quantization.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::front::Front;
use super::headway::Headway;
use super::parent::searched_model;
use super::prepare::{CHUNK_TOKENS, MAX_LENGTH};
use super::progress::Progress;
use super::quantized::{Change, QuantizedFront, QuantizedPoint};
use super::settings::RunSettings;
use crate::checkpoint::{Checkpoint, Tokenizer};
use crate::error::{Error, Result};
use crate::eval::{
    Contribution, EvalSet, Exam, LocalEvaluator, Metric, NetworkScores, PackingOptions, Workers, Writer, pack_task,
    score,
};
use crate::model::Llama;
use crate::model::device::open_device;
use crate::plan::load;
use crate::space::{Bits, BlockTypes, BlockWeights, Cost, Ends, Genome, check_genome};
use crate::task::{Selection, Split, Task};

/// What is quantized, and what it is scored on.
pub struct Requantization {
    parent: Checkpoint,
    name: String,
    /// (id, network)
    networks: Vec<(usize, Genome)>,
    tasks: Vec<HeldOutTask>,
    packing: PackingOptions,
    /// libtorch threads of the run, if there is one.
    threads: Option<usize>,
}

/// Where networks are scored.
#[derive(Clone, Debug)]
pub struct Place {
    /// Directory of the tasks' data.
    pub data: PathBuf,
    /// The device, as [`open_device`] reads it.
    pub device: String,
    /// libtorch threads.
    pub threads: usize,
}

/// A task's held-out items: so many, and what their digest must be.
struct HeldOutTask {
    name: String,
    items: usize,
    digest: Option<String>,
}

/// What every network's items contribute to a task's metric.
struct TaskScores {
    name: String,
    metric: Metric,
    networks: Vec<Vec<Contribution>>,
}

impl Requantization {
    /// The front of a finished run, on the items that it was measured on, or the first `held_out` of them; its model as [`searched_model`] has it. `device` must be of
    /// the kind that the run's was.
    ///
    /// # Errors
    /// A run without a model, or of another kind of device; `Missing` for a run that is not finished.
    pub fn of_run(
        dir: &Path,
        settings: &RunSettings,
        moved: Option<&Path>,
        held_out: Option<usize>,
        device: &str,
    ) -> Result<Requantization> {
        let run = dir.display();
        if settings.evaluator != "local" {
            let found = format!("{run}, scored by the {} evaluator, which has no weights", settings.evaluator);
            return Err(Error::invalid("run to quantize", found, "one that was searched on a model"));
        }
        if settings.device.starts_with("cpu") != (device == "cpu") {
            let found = format!("{device}, but {run} was scored on {}", settings.device);
            return Err(Error::invalid("device", found, "one of that kind, so that scores before and after are alike"));
        }
        let parent = searched_model(dir, moved)?.expect("its settings were read");
        let front = Front::read_json(&dir.join("front.json"))?;
        let tasks = settings.tasks.iter().map(|task| HeldOutTask {
            items: held_out.unwrap_or(task.selected(Split::HeldOut)),
            digest: held_out.is_none().then(|| task.held_out_digest.clone()),
            name: task.name.clone(),
        });
        Ok(Requantization {
            parent,
            name: front.model,
            networks: front.points.into_iter().map(|point| (point.id, point.genome)).collect(),
            tasks: tasks.collect(),
            packing: settings.frozen.packing,
            threads: Some(settings.frozen.threads),
        })
    }

    /// One model, on the first held-out items of some tasks.
    pub fn of_model(parent: Checkpoint, name: String, tasks: &[String], held_out: usize) -> Requantization {
        let task = |name: &String| HeldOutTask { name: name.clone(), items: held_out, digest: None };
        let max_length = parent.config().positions().min(MAX_LENGTH);
        Requantization {
            name,
            networks: vec![(0, parent.config().genome.clone())],
            tasks: tasks.iter().map(task).collect(),
            packing: PackingOptions { chunk_tokens: CHUNK_TOKENS, max_length },
            threads: None,
            parent,
        }
    }

    /// The model.
    pub fn parent(&self) -> &Checkpoint {
        &self.parent
    }

    /// libtorch threads with which scores before are the run's own to the last bit.
    pub fn threads(&self) -> Option<usize> {
        self.threads
    }

    /// The networks in other bits.
    ///
    /// # Errors
    /// A network that is quantized already, or that cannot be.
    pub fn quantized(&self, bits: Bits, ends: Ends) -> Result<Vec<Genome>> {
        let quantized = |(_, genome): &(usize, Genome)| {
            if genome.is_quantized() {
                let found = format!("{genome}, which is quantized already: its run has scored what it exports");
                return Err(Error::invalid("network to quantize", found, "16 bits"));
            }
            let after = genome.in_bits(bits).with_ends(ends);
            check_genome(&self.parent.config().shape, &self.parent.config().genome, &after)?;
            Ok(after)
        };
        self.networks.iter().map(quantized).collect()
    }

    /// Every network before and `after`, in the order of [`Requantization::quantized`], on the same held-out items.
    ///
    /// # Errors
    /// Items that are not those the run was measured on, a network that cannot be scored.
    pub fn measure(
        &self,
        after: &[Genome],
        place: &Place,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<QuantizedFront> {
        let before = self.networks.iter().map(|(_, before)| before);
        let pairs: Vec<Genome> = before.zip(after).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        let scores = self.score(&pairs, place, on_progress)?;
        let shape = self.parent.config().shape;
        let point = |((id, before), (place, after)): (&(usize, Genome), (usize, &Genome))| {
            let changes =
                scores.iter().map(|task| task.change(&task.networks[2 * place], &task.networks[2 * place + 1]));
            QuantizedPoint {
                id: *id,
                bytes_before: Cost::of(&shape, before).weight_bytes,
                bytes: Cost::of(&shape, after).weight_bytes,
                genome: after.clone(),
                changes: changes.collect(),
            }
        };
        let mut points: Vec<QuantizedPoint> = self.networks.iter().zip(after.iter().enumerate()).map(point).collect();
        points.sort_by_key(|point| point.bytes_before);
        let mean = scores.iter().map(|task| {
            let of = |side: usize| mean_of(task.networks.iter().skip(side).step_by(2));
            task.change(&of(0), &of(1))
        });
        Ok(QuantizedFront {
            parent_quantized: self.parent.config().quantized,
            model: self.name.clone(),
            format: BlockTypes::of_networks(&shape, after).to_string(),
            points,
            mean: mean.collect(),
        })
    }

    /// Contributions of every network's items, task by task.
    fn score(
        &self,
        networks: &[Genome],
        place: &Place,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<TaskScores>> {
        let writer = Writer::new(&self.parent, Arc::new(self.parent.tokenizer()?))?;
        let config = self.parent.config();
        let blocks = BlockWeights::of_networks(&config.shape, &config.genome, networks);
        let (model, note) = load(&self.parent, open_device(&place.device, None)?, blocks)?;
        if let Some(note) = note {
            on_progress(Progress::Note(note));
        }
        let sets: Vec<EvalSet> =
            self.tasks.iter().map(|task| self.pack(task, writer.tokenizer(), place)).collect::<Result<_>>()?;
        let total = networks.len() * sets.iter().map(|set| set.chunks.len()).sum::<usize>();
        let mut done = 0;
        let mut on_partial = || {
            done += 1;
            let share = done as f64 / total as f64;
            on_progress(Progress::Scored(Headway::of_share(share, networks.len())));
        };
        let scores = |(task, set): (&HeldOutTask, EvalSet)| {
            let exam = Exam { sets: vec![set], writer: Some(writer.clone()) };
            task_scores(&model, &task.name, exam, networks, place.threads, &mut on_partial)
        };
        self.tasks.iter().zip(sets).map(scores).collect()
    }

    fn pack(&self, held_out: &HeldOutTask, tokenizer: &Tokenizer, place: &Place) -> Result<EvalSet> {
        let HeldOutTask { name, items, digest } = held_out;
        let task = Task::open(name, Some(&place.data))?;
        let selection = Selection::side(&task, Split::HeldOut, Some(*items))?;
        let set = pack_task(&format!("{name}/{}", Split::HeldOut), &task, &selection, tokenizer, self.packing)?;
        match digest {
            Some(digest) if *digest != set.digest => {
                let expected = format!("{digest}, as the run measured");
                Err(Error::invalid(format!("held-out items of `{name}`"), format!("digest {}", set.digest), expected))
            }
            _ => Ok(set),
        }
    }
}

/// Scores networks on an exam of one eval set.
fn task_scores(
    model: &Llama,
    task: &str,
    exam: Exam,
    networks: &[Genome],
    threads: usize,
    on_partial: &mut dyn FnMut(),
) -> Result<TaskScores> {
    let set = exam.sets[0].clone();
    let metric = Metric::headline_of(&set);
    let workers = Workers { count: 1, threads };
    let mut evaluator = LocalEvaluator::start(std::slice::from_ref(model), exam, workers, 0, Arc::default());
    let scored = score(&mut evaluator, 0, networks, on_partial)?;
    let of = |(genome, scores): (&Genome, NetworkScores)| match scores {
        Ok(scores) => Ok(metric.contributions(&set, &scores)),
        Err(reason) => Err(Error::invalid(format!("score of {genome}"), reason, "a finite score")),
    };
    let networks = networks.iter().zip(scored).map(of).collect::<Result<_>>()?;
    Ok(TaskScores { name: format!("{}:{task}", metric.name()), metric, networks })
}

impl TaskScores {
    fn change(&self, before: &[Contribution], after: &[Contribution]) -> Change {
        let (a, b) = (self.metric.estimate(before), self.metric.estimate(after));
        let difference = self.metric.difference(after, before);
        Change {
            name: self.name.clone(),
            items: before.len(),
            before: a.value,
            before_stderr: a.stderr,
            after: b.value,
            after_stderr: b.stderr,
            change: difference.value,
            change_stderr: difference.stderr,
        }
    }
}

/// The mean network: what each item contributes on average.
fn mean_of<'a>(networks: impl Iterator<Item = &'a Vec<Contribution>>) -> Vec<Contribution> {
    let networks: Vec<&Vec<Contribution>> = networks.collect();
    let count = networks.len() as f64;
    let mean = |item: usize| {
        let value = networks.iter().map(|network| network[item].value).sum::<f64>() / count;
        let weight = networks.iter().map(|network| network[item].weight).sum::<f64>() / count;
        Contribution { value, weight }
    };
    (0..networks.first().map_or(0, |network| network.len())).map(mean).collect()
}
