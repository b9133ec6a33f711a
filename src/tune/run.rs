//! A fine-tuning from its first step to an ordinary checkpoint, resumable at any moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

use super::Corpus;
use super::adamw::{AdamW, Parameter};
use super::backward::learn;
use super::batch::Batch;
use super::curriculum::Source;
use super::head_loss::{HeadLoss, Lesson};
use super::metrics::{self, Metrics, Row};
use super::settings::{Trainable, TuneSettings};
use super::state::{self, Expected, Found, Place};
use crate::checkpoint::{Adapters, Checkpoint, LowRank, TensorName};
use crate::error::{Error, Result};
use crate::freed_memory::{hand_back_freed_memory, keep_large_freed_memory};
use crate::model::{Llama, Network};
use crate::output::HeldDirectory;

/// Held-out loss of the first network may rise by this many nats per token over the first measurement; more is divergence.
const DIVERGENCE: f64 = 1.0;

/// What a fine-tuning tells while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// What the user is to know.
    Note(String),
    /// It goes on after this many steps.
    Resumed {
        /// Steps taken before.
        step: usize,
    },
    /// A step is done.
    Step {
        /// Steps taken.
        step: usize,
        /// All steps.
        of: usize,
        /// Tokens of the step.
        tokens: usize,
        /// What it took.
        time: Duration,
    },
    /// Held-out losses were measured once more: the last row.
    Measured(&'a Metrics),
}

/// One fine-tuning: a model, what it learns, and where it is kept.
pub struct TuneRun<'a> {
    dir: PathBuf,
    settings: TuneSettings,
    model: Llama,
    teacher: Option<&'a Llama>,
    corpus: &'a Corpus,
    parameters: Vec<Parameter>,
    metrics: Metrics,
    place: Place,
    /// What was wrong with the state that it goes on from.
    note: Option<String>,
}

impl<'a> TuneRun<'a> {
    /// Begins a fine-tuning in `dir`, or goes on with the one that these settings began there. `teacher` is what
    /// [`Source::Parent`] means.
    ///
    /// # Errors
    /// Settings that cannot train, a directory of another run, a state that cannot be read.
    pub fn open(
        dir: &HeldDirectory,
        settings: TuneSettings,
        mut model: Llama,
        teacher: Option<&'a Llama>,
        corpus: &'a Corpus,
    ) -> Result<TuneRun<'a>> {
        settings.check()?;
        let dir = dir.path();
        // Who recomputes or trains adapters has little memory; what is kept has holes.
        if settings.trainable == Trainable::Full && !settings.recompute {
            keep_large_freed_memory();
        }
        settings.curriculum.check(&model)?;
        settings.claim(dir)?;
        if let Trainable::Lora { rank, alpha, .. } = settings.trainable {
            model.adapt(&initial_adapters(&model, &settings, rank, alpha)?);
        }
        let tensors = match model.adapters() {
            Some(adapters) => adapters.named().into_iter().collect(),
            None => model.weights(),
        };
        let mut parameters: Vec<Parameter> =
            tensors.into_iter().map(|(name, tensor)| Parameter::new(name, tensor)).collect();
        let networks: Vec<String> =
            settings.curriculum.followed(settings.seed).into_iter().map(|(name, _)| name).collect();
        let steps = settings.schedule.steps;
        let found = state::read(dir, &mut parameters, Expected { steps, networks: &networks })?;
        let (place, metrics, note) = match found {
            Some((Found { place, metrics: Some(metrics) }, note)) => {
                metrics.write(dir)?;
                (place, metrics, note)
            }
            // Of a version that kept it beside the state only: rows after the state are measured again.
            Some((Found { place, metrics: None }, note)) => {
                let mut metrics = Metrics::read(dir, &networks)?;
                metrics.rows.retain(|row| row.step < place.step || (row.step == place.step && place.sums.steps == 0));
                (place, metrics, note)
            }
            None if TuneRun::ended_in(dir) => (Place::default(), finished(dir, &networks, steps)?, None),
            None => (Place::default(), Metrics::new(networks), None),
        };
        Ok(TuneRun { dir: dir.into(), settings, model, teacher, corpus, parameters, metrics, place, note })
    }

    /// Trains to the end, saving whenever `save_every` has passed: that much a crash can cost. `stop` ends it after the step
    /// at hand, saved.
    ///
    /// # Errors
    /// `Interrupted` when asked to stop; `Diverged` with the last good state; `Io` when a state cannot be saved, the one
    /// before it is whole then.
    pub fn train(
        &mut self,
        save_every: Duration,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        if let Some(note) = self.note.take() {
            on_progress(Progress::Note(note));
        }
        if self.place.step > 0 {
            on_progress(Progress::Resumed { step: self.place.step });
        }
        let mut saved = Instant::now();
        loop {
            let step = self.place.step;
            let due = step.is_multiple_of(self.settings.measure_every) || step == self.settings.schedule.steps;
            if due && self.metrics.rows.last().is_none_or(|row| row.step < step) {
                self.measure()?;
                self.save()?;
                state::keep(&self.dir)?;
                // Holes that measuring and saving left would be resident beside a step's buffers.
                hand_back_freed_memory();
                saved = Instant::now();
                on_progress(Progress::Measured(&self.metrics));
            }
            if step == self.settings.schedule.steps {
                return Ok(());
            }
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                return Err(Error::Interrupted);
            }
            if saved.elapsed() >= save_every {
                self.save()?;
                saved = Instant::now();
            }
            let start = Instant::now();
            let tokens = self.step()?;
            let of = self.settings.schedule.steps;
            on_progress(Progress::Step { step: self.place.step, of, tokens, time: start.elapsed() });
        }
    }

    /// What was measured so far.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether an earlier process trained to the end and wrote its result.
    pub fn is_finished(&self) -> bool {
        let last = self.metrics.rows.last().is_some_and(|row| row.step == self.settings.schedule.steps);
        last && TuneRun::ended_in(&self.dir)
    }

    /// Whether a directory holds the result of a fine-tuning, and nothing that is still to be written.
    pub fn ended_in(dir: &Path) -> bool {
        dir.join("config.json").is_file() && !state::path(dir).is_file()
    }

    /// Takes the state away once its result is written elsewhere.
    pub fn forget(&self) -> Result<()> {
        state::forget(&self.dir)
    }

    /// Goes back to the state of the last measurement that was no worse than allowed.
    pub fn go_back(&mut self) -> Result<()> {
        let expected = Expected { steps: self.settings.schedule.steps, networks: &self.metrics.networks };
        self.place = state::read_file(&state::good_path(&self.dir), &mut self.parameters, expected)?.place;
        Ok(())
    }

    /// The model with its float32 values: the model itself where it computes in them, else one on the CPU made of the
    /// masters and, for what is not trained, of `base`.
    pub fn result(&self, base: &Checkpoint) -> Result<Llama> {
        if self.model.kind() == Kind::Float {
            return Ok(self.model.share());
        }
        let mut model = Llama::load(base, Device::Cpu, Kind::Float)?;
        let masters: BTreeMap<&str, &Tensor> =
            self.parameters.iter().map(|one| (one.name.as_str(), &one.master)).collect();
        if let Some(adapters) = self.model.adapters() {
            model.adapt(adapters);
        }
        let own = model.adapters().map_or_else(|| model.weights().into_iter().collect(), Adapters::named);
        for (name, mut tensor) in own {
            no_grad(|| tensor.f_copy_(masters[name.as_str()]))?;
        }
        Ok(model)
    }

    fn save(&self) -> Result<()> {
        state::write(&self.dir, &self.place, &self.metrics, &self.parameters)
    }

    /// One optimizer step; returns its tokens.
    fn step(&mut self) -> Result<usize> {
        let step = self.place.step;
        let batches = self.batches(step)?;
        let targets: usize = batches.iter().map(|batch| batch.targets).sum();
        let (mut tokens, mut loss) = (0, 0.0);
        for batch in batches.iter().filter(|batch| batch.targets > 0) {
            // Every target of the step counts alike.
            let share = batch.targets as f64 / targets as f64;
            loss += share * self.teach(step, batch, share)?;
            tokens += batch.tokens;
        }
        let norm = AdamW::gradient_norm(&self.parameters);
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.diverged(format!("loss {loss}, gradient norm {norm}")));
        }
        let learning_rate = self.settings.schedule.at(step);
        self.settings.optimizer.step(&mut self.parameters, step, learning_rate, norm);
        self.place.sums.add(loss, norm);
        self.place.step += 1;
        self.place.tokens += tokens as u64;
        Ok(tokens)
    }

    /// Gradients of all networks of a step on one batch; the loss of the first, nats per token.
    fn teach(&self, step: usize, batch: &Batch, share: f64) -> Result<f64> {
        let curriculum = &self.settings.curriculum;
        let pupils = curriculum.pupils(self.settings.seed, step);
        let each = share / pupils.len() as f64;
        let mut first: Option<(f64, Tensor)> = None;
        for pupil in &pupils {
            let parent;
            let lesson = match (pupil.source, &first, self.teacher) {
                (Source::First, Some((_, normed)), _) => Lesson::Teacher { head: self.model.head(), normed },
                (Source::Parent, _, Some(teacher)) => {
                    parent = normed_rows(&teacher.whole()?, batch);
                    Lesson::Teacher { head: teacher.head(), normed: &parent }
                }
                _ => Lesson::Labels(&batch.labels),
            };
            let weight = |loss: f64| {
                let of_first = first.as_ref().map_or(loss, |(loss, _)| *loss);
                each * curriculum.weight(pupil.source, loss, of_first)
            };
            let network = self.model.network(&pupil.genome)?;
            let learned = learn(&network, batch, &lesson, &weight, self.settings.recompute);
            if !learned.loss.is_finite() {
                return Err(self.diverged(format!("loss {} of network {}", learned.loss, pupil.genome)));
            }
            first.get_or_insert((learned.loss, learned.normed));
        }
        Ok(first.map_or(0.0, |(loss, _)| loss))
    }

    /// The batches of a step: the epochs' orders one after the other, cut into steps.
    fn batches(&self, step: usize) -> Result<Vec<Batch>> {
        let batching = self.settings.batching;
        let per_step = batching.sequences * batching.accumulate;
        let chosen = self.corpus.sequences(self.settings.seed, step * per_step..(step + 1) * per_step);
        chosen.chunks(batching.sequences).map(|sequences| Batch::new(&self.model, sequences)).collect()
    }

    /// Held-out losses of the followed networks: of the text, or from what another model predicts where that teaches.
    fn measure(&mut self) -> Result<()> {
        let followed = self.settings.curriculum.followed(self.settings.seed);
        let (mut sums, mut targets) = (vec![0.0; followed.len()], 0);
        for sequence in self.corpus.held_out.iter().take(self.settings.held_out) {
            let batch = Batch::new(&self.model, &[sequence])?;
            targets += batch.targets;
            let parent = |teacher: &'a Llama| Ok::<_, Error>((teacher.head(), normed_rows(&teacher.whole()?, &batch)));
            let parent = self.teacher.map(parent).transpose()?;
            let lesson = match &parent {
                Some((head, normed)) => Lesson::Teacher { head, normed },
                None => Lesson::Labels(&batch.labels),
            };
            for ((_, genome), sum) in followed.iter().zip(&mut sums) {
                let normed = normed_rows(&self.model.network(genome)?, &batch);
                *sum += HeadLoss::of(self.model.head(), &normed, &lesson, false).sum;
            }
        }
        let losses: Vec<f64> = sums.iter().map(|sum| sum / targets as f64).collect();
        let step = self.place.step;
        if let Some(wrong) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(self.diverged(format!("held-out loss {} of {}", losses[wrong], followed[wrong].0)));
        }
        if let Some(start) = self.metrics.rows.first().and_then(|row| row.losses.first().copied())
            && losses[0] > start + DIVERGENCE
        {
            let name = &followed[0].0;
            return Err(self.diverged(format!("held-out loss of {name} {:.3}, {start:.3} at the start", losses[0])));
        }
        let (tokens, training) = (self.place.tokens, self.place.sums.take());
        let learning_rate = self.settings.schedule.at(step.min(self.settings.schedule.steps - 1));
        self.metrics.rows.push(Row { step, tokens, learning_rate, training, losses });
        self.metrics.write(&self.dir)
    }

    fn diverged(&self, found: String) -> Error {
        Error::Diverged { step: self.place.step, found }
    }
}

/// What was measured in a fine-tuning that came to its end.
fn finished(dir: &Path, networks: &[String], steps: usize) -> Result<Metrics> {
    let metrics = Metrics::read(dir, networks)?;
    match metrics.rows.last() {
        Some(row) if row.step == steps => Ok(metrics),
        last => {
            let last = last.map_or("no row".to_string(), |row| format!("step {}", row.step));
            let reason = format!("it ends with {last}, the fine-tuning with step {steps}; put back a copy of it");
            Err(Error::format(dir.join(metrics::FILE), metrics::FILE, reason))
        }
    }
}

/// What the output matrix takes at the rows that predict something, without gradients: (r, d).
fn normed_rows(network: &Network, batch: &Batch) -> Tensor {
    no_grad(|| network.parts().head().final_norm(&network.hidden(&batch.forest).index_select(0, &batch.rows)))
}

/// A from the uniform distribution that `torch.nn.Linear` begins with (Kaiming with a = √5: ±1/√in), as peft does, B zero:
/// the network begins as it was.
fn initial_adapters(model: &Llama, settings: &TuneSettings, rank: usize, alpha: f64) -> Result<Adapters> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    // Apart from the streams of the steps.
    rng.set_stream(u64::MAX);
    let config = model.config();
    let targets = settings.trainable.targets()?;
    let places = (0..config.shape.layers).flat_map(|layer| targets.iter().map(move |&target| (layer, target)));
    let mut matrices = BTreeMap::new();
    for (layer, target) in places {
        let shape = config.tensor_shape(TensorName::Layer(layer, target)).unwrap_or_default();
        let [out, inputs] = shape[..] else { continue };
        if out == 0 || inputs == 0 {
            continue;
        }
        let bound = 1.0 / (inputs as f32).sqrt();
        let values: Vec<f32> = (0..rank * inputs).map(|_| rng.random_range(-bound..bound)).collect();
        let a = Tensor::from_slice(&values).view([rank as i64, inputs as i64]);
        let b = Tensor::zeros([out as i64, rank as i64], (Kind::Float, Device::Cpu));
        matrices.insert((layer, target), LowRank { a, b });
    }
    Ok(Adapters { rank, alpha, matrices })
}
