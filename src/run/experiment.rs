//! What is to be searched, as plain values with defaults.

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::front::Front;
use super::limits;
use super::progress::Progress;
use super::racing::Racing;
use super::run::Run;
use super::scorer::Scorer;
use super::settings::RunSettings;
use crate::error::{Error, Result};
use crate::eval::{Metric, Objective};
use crate::output::{HeldDirectory, Output};
use crate::search::{ALGORITHMS, Algorithm, AlgorithmKind, Beginning, Worth, first_population, given_networks};
use crate::space::{Constraint, Genome, SearchSpace};
use crate::versions::versions;

/// A search to be made: what a user says of it, whatever scores the networks.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The command line that asks for it, word by word, for `run.json`; it changes nothing.
    pub command: Vec<String>,
    /// The model as the user names it: a checkpoint directory, a GGUF file, or `smollm2-135m`.
    pub model: String,
    /// The space.
    pub space: SearchSpace,
    /// What is optimised, two or more: `choice_nll:TASK`, `params`, ...
    pub objectives: Vec<String>,
    /// Hard constraints besides the space's own.
    pub constraints: Vec<Constraint>,
    /// Networks to evaluate.
    pub evals: usize,
    /// Networks of a population.
    pub population: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// Networks to evaluate first.
    pub seed_genomes: Vec<Genome>,
    /// The algorithm.
    pub algorithm: AlgorithmKind,
    /// How networks race, if they do.
    pub racing: Option<Racing>,
    /// Whether workers elsewhere may be machines of several kinds: each chunk is scored by one kind, so that networks are compared
    /// within it.
    pub mixed_hardware: bool,
}

impl Experiment {
    /// 250 networks of a space in populations of 50 by the default algorithm, racing with an error of 0.05, from seed 1.
    pub fn new<S: ToString>(
        model: impl ToString,
        space: SearchSpace,
        objectives: impl IntoIterator<Item = S>,
    ) -> Experiment {
        Experiment {
            model: model.to_string(),
            space,
            objectives: objectives.into_iter().map(|objective| objective.to_string()).collect(),
            constraints: Vec::new(),
            command: Vec::new(),
            evals: 250,
            population: 50,
            seed: 1,
            seed_genomes: Vec::new(),
            algorithm: ALGORITHMS[0],
            racing: Some(Racing::default()),
            mixed_hardware: false,
        }
    }

    /// What a run's scorers need of the experiment that it is of.
    pub fn of(settings: &RunSettings) -> Experiment {
        let RunSettings { model, space, objectives, constraints, evals, seed, racing, mixed_hardware, .. } =
            settings.clone();
        let experiment = Experiment::new(model, space, objectives);
        Experiment { constraints, evals, seed, racing, mixed_hardware, ..experiment }
    }

    /// Refuses what is wrong whatever scores the networks, before anything long begins.
    ///
    /// # Errors
    /// Unknown objectives, none that scores a task.
    pub fn check(&self) -> Result<()> {
        self.tasks().map(drop)
    }

    /// Refuses limits that no network of the space can meet: of this space, whose layers are dropped in the model's order.
    ///
    /// # Errors
    /// `Invalid` with what the networks have.
    pub fn check_limits(&self, space: &SearchSpace) -> Result<()> {
        limits::check(space, self.all_constraints())
    }

    /// Everything that a network is asked for: the objectives, then what constraints are about, the space's first.
    ///
    /// # Errors
    /// Unknown objectives.
    pub fn quantities(&self) -> Result<Vec<Objective>> {
        let limits = self.all_constraints().map(|limit| &limit.objective);
        self.objectives.iter().chain(limits).map(|text| Objective::parse(text)).collect()
    }

    /// The tasks of all objectives and constraints with the metrics asked of them, in the order they are named.
    ///
    /// # Errors
    /// Unknown objectives, and none that scores a task.
    pub fn tasks(&self) -> Result<Vec<(String, Vec<Metric>)>> {
        let mut tasks: Vec<(String, Vec<Metric>)> = Vec::new();
        for quantity in self.quantities()? {
            for name in quantity.tasks() {
                match tasks.iter_mut().find(|(known, _)| known == name) {
                    Some((_, metrics)) => metrics.extend(quantity.metric()),
                    None => tasks.push((name.clone(), quantity.metric().into_iter().collect())),
                }
            }
        }
        if tasks.is_empty() {
            let expected = "one that scores a task, such as `choice_nll:arc_easy`";
            return Err(Error::invalid("objectives", self.objectives.join(", "), expected));
        }
        Ok(tasks)
    }

    fn all_constraints(&self) -> impl Iterator<Item = &Constraint> {
        self.space.constraints().iter().chain(&self.constraints)
    }

    /// Everything that is needed to repeat the search.
    pub fn settings(&self, scorer: &Scorer) -> RunSettings {
        let space = &scorer.space;
        RunSettings {
            format: RunSettings::FORMAT,
            versions: versions(),
            command: self.command.clone(),
            model: self.model.clone(),
            model_digest: scorer.model_digest.clone(),
            space: space.clone(),
            objectives: self.objectives.clone(),
            constraints: self.all_constraints().cloned().collect(),
            tasks: scorer.tasks.clone(),
            evaluator: scorer.name.clone(),
            device: scorer.device.clone(),
            algorithm: (self.algorithm.frozen)(self.population),
            racing: self.racing,
            evals: self.evals,
            seed: self.seed,
            ranking: scorer.worth.as_ref().map(Worth::digest),
            first_networks: self.given(space, scorer.worth.as_ref()),
            mixed_hardware: self.mixed_hardware,
            frozen: scorer.frozen.clone(),
        }
    }

    /// The given part of the first population.
    fn given(&self, space: &SearchSpace, worth: Option<&Worth>) -> Vec<Genome> {
        given_networks(space, &self.seed_genomes, worth, self.population)
    }

    /// The first population, of which some networks are given.
    fn first(&self, space: &SearchSpace, given: &[Genome]) -> Vec<Genome> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        first_population(space, given, self.population, &mut rng, |genome| space.size(genome))
    }

    /// About `count` networks of the first population, the parent among them, from the smallest to the largest.
    #[cfg(feature = "torch")]
    pub(super) fn sample(&self, space: &SearchSpace, worth: Option<&Worth>, count: usize) -> Vec<Genome> {
        let mut networks = self.first(space, &self.given(space, worth));
        networks.sort_by_key(|genome| (std::cmp::Reverse(space.size(genome)), genome.clone()));
        let every = networks.len().div_ceil(count).max(1);
        networks.into_iter().step_by(every).collect()
    }

    fn begin(&self, settings: &RunSettings, worth: Option<&Worth>) -> Result<Box<dyn Algorithm>> {
        let space = &settings.space;
        let first = self.first(space, &settings.first_networks);
        let closed_form = &settings.closed_form()?;
        let beginning = Beginning { space, closed_form, population: self.population, worth, first, seed: self.seed };
        (self.algorithm.begin)(beginning)
    }

    /// Searches in a directory, which it makes or, where it holds this search, goes on with; to the end, and measures the
    /// front on held-out items.
    ///
    /// # Errors
    /// What [`Experiment::check`] refuses, seed genomes of another space, limits that no network of it can meet, [`Error::OtherRun`] where the directory holds another search,
    /// [`Error::InUse`] where another process searches there, [`Error::Taken`] where it holds something else,
    /// [`Error::Interrupted`] when the user stopped the evaluator: the same call again goes on.
    pub fn run(&self, scorer: Scorer, dir: &Path, on_progress: &mut dyn FnMut(Progress)) -> Result<Front> {
        self.run_in(scorer, &RunSettings::hold(&Output::of("search"), dir)?, on_progress)
    }

    /// As [`Experiment::run`], in a directory that is held already.
    ///
    /// # Errors
    /// As [`Experiment::run`].
    pub fn run_in(
        &self,
        mut scorer: Scorer,
        held: &HeldDirectory,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Front> {
        self.check()?;
        if let Some(stranger) = self.seed_genomes.iter().find(|genome| !scorer.space.contains(genome)) {
            return Err(Error::invalid("seed genome", stranger, "a network of the space"));
        }
        self.check_limits(&scorer.space)?;
        let settings = self.settings(&scorer);
        let mut algorithm = self.begin(&settings, scorer.worth.as_ref())?;
        let searched = Run::open(held, settings)?.search(&mut *algorithm, &mut *scorer.evaluator, on_progress);
        for note in scorer.evaluator.notes() {
            on_progress(Progress::Note(note));
        }
        searched
    }
}
