//! A population races over the chunks of the search split: what surely is not on the front is dropped on the way.

use super::evaluations::Evaluation;
use super::goals::Goals;
use super::racing::{Excess, LEAST_ITEMS, Racing, surely_dominated};
use super::scoring::{Dropped, Scores};
use super::session::{Part, Session};
use super::settings::RunSettings;
use crate::error::Result;
use crate::eval::{Contribution, Metric, Objective};
use crate::search::ClosedForm;
use crate::space::{Bound, Constraint, Genome};
use crate::task::Split;

/// A population's race against the front so far.
pub(super) struct Race<'a> {
    settings: &'a RunSettings,
    goals: &'a Goals,
    closed_form: ClosedForm,
    /// The front so far, which newcomers must not be surely worse than.
    champions: Vec<&'a Evaluation>,
    quantities: Vec<Quantity<'a>>,
}

/// A measured quantity that rivals are compared in: an objective, or the objective of a constraint.
struct Quantity<'a> {
    objective: &'a Objective,
    metric: Metric,
    /// 1 where larger is worse, else -1.
    sign: f64,
}

/// How far a race has come: what is scored by now.
struct Standing<'a, 's> {
    scores: Scores<'a, 's>,
    parts: &'a [Part],
    /// The share of each task's items that the parts leave out.
    unseen: Vec<f64>,
}

impl<'a> Race<'a> {
    /// A race against the front of what was evaluated before.
    pub(super) fn new(settings: &'a RunSettings, goals: &'a Goals, before: &'a [Evaluation]) -> Result<Race<'a>> {
        let champions = goals.front(before);
        let objectives = goals.objectives().iter().map(|objective| (objective, objective.loss(1.0)));
        let sign = |limit: &Constraint| if limit.bound == Bound::AtLeast { -1.0 } else { 1.0 };
        let limits = goals.limits().iter().map(|(objective, limit)| (objective, sign(limit)));
        let quantity = |(objective, sign): (&'a Objective, f64)| {
            objective.metric().map(|metric| Quantity { objective, metric, sign })
        };
        let quantities = objectives.chain(limits).filter_map(quantity).collect();
        Ok(Race { settings, goals, closed_form: settings.closed_form()?, champions, quantities })
    }

    /// Scores the genomes, each as far as it races, and says which were dropped on the way.
    pub(super) fn run(&self, session: &mut Session, genomes: &[Genome]) -> Result<Dropped> {
        let split = session.parts(Split::Search);
        let Some(racing) = self.settings.racing else {
            session.score(&split, genomes)?;
            return Ok(Dropped::new());
        };
        let chunks: Vec<usize> = split.iter().map(|part| part.chunks).collect();
        let stages: Vec<Vec<Part>> = Racing::stages(&chunks).iter().map(|stage| first_chunks(&split, stage)).collect();
        let looks = looks(session, &stages);
        let mut dropped = Dropped::new();
        for parts in &stages {
            let left: Vec<Genome> = genomes.iter().filter(|genome| !dropped.contains_key(genome)).cloned().collect();
            session.score(parts, &left)?;
            let unseen: Vec<f64> = parts.iter().map(|&part| unseen(session, part)).collect();
            if unseen.iter().all(|&share| share == 0.0) {
                break;
            }
            let scores = Scores { settings: self.settings, goals: self.goals, session };
            let standing = Standing { scores, parts, unseen };
            for genome in left {
                let rivals = self.rivals(&genome);
                let level = racing.level(rivals.len(), looks);
                let beaten = |rival: &&&Genome| {
                    let excess = self.excesses(&genome, rival, &standing);
                    excess.is_some_and(|excess| surely_dominated(&excess, level))
                };
                if let Some(rival) = rivals.iter().find(beaten) {
                    dropped.insert(genome.clone(), (parts.clone(), (*rival).clone()));
                }
            }
        }
        Ok(dropped)
    }

    /// Of the front so far, for each measured objective the best network of those that no exact loss speaks against. What
    /// they are was settled on all items, so it does not depend on which items came first.
    fn rivals(&self, genome: &Genome) -> Vec<&'a Genome> {
        let ours = self.exact_losses(genome);
        let no_worse = |row: &&&Evaluation| {
            row.genome != *genome && self.exact_losses(&row.genome).iter().zip(&ours).all(|(a, b)| a <= b)
        };
        let rivals: Vec<(&&Evaluation, Vec<f64>)> =
            self.champions.iter().filter(no_worse).map(|row| (row, self.goals.losses(&row.objectives))).collect();
        let objectives = self.goals.objectives().iter().enumerate();
        let measured = objectives.filter(|(_, objective)| objective.metric().is_some()).map(|(place, _)| place);
        let best = |place: usize| {
            rivals.iter().min_by(|(_, a), (_, b)| a[place].total_cmp(&b[place])).map(|(row, _)| &row.genome)
        };
        let mut best: Vec<&Genome> = measured.filter_map(best).collect();
        best.dedup();
        best
    }

    /// The losses that need no scoring, and the violation of such constraints.
    fn exact_losses(&self, genome: &Genome) -> Vec<f64> {
        let known = (self.closed_form)(genome);
        known.losses.into_iter().flatten().chain([known.violation]).collect()
    }

    /// By how much a network's losses exceed a rival's on the items of both; nothing where one failed.
    fn excesses(&self, genome: &Genome, rival: &Genome, standing: &Standing) -> Option<Vec<Excess>> {
        let (ours, theirs) = (self.exact_losses(genome), self.exact_losses(rival));
        let mut excess: Vec<Excess> = ours.iter().zip(&theirs).map(|(a, b)| Excess::Exact(a - b)).collect();
        for quantity in &self.quantities {
            let of = |genome: &Genome| {
                let part = |task: &String| standing.parts[self.goals.task_place(task)];
                let task = |task: &String| standing.scores.contributions(genome, part(task), quantity.metric);
                quantity.objective.tasks().iter().map(task).collect::<Result<Vec<_>, String>>().ok()
            };
            excess.push(self.excess(quantity, &of(genome)?, &of(rival)?, &standing.unseen));
        }
        Some(excess)
    }

    /// By how much a network's loss exceeds a rival's in one quantity: the mean over its tasks of paired differences.
    fn excess(
        &self,
        quantity: &Quantity,
        ours: &[Vec<Contribution>],
        theirs: &[Vec<Contribution>],
        unseen: &[f64],
    ) -> Excess {
        let tasks = ours.len() as f64;
        let (mut mean, mut variance, mut items) = (0.0, 0.0, None);
        for ((ours, theirs), task) in ours.iter().zip(theirs).zip(quantity.objective.tasks()) {
            let unseen = unseen[self.goals.task_place(task)];
            let difference = quantity.metric.difference(ours, theirs);
            mean += quantity.sign * difference.value / tasks;
            variance += unseen * (difference.stderr / tasks).powi(2);
            if unseen > 0.0 {
                items = Some(items.map_or(ours.len(), |items: usize| items.min(ours.len())));
            }
        }
        match items {
            Some(items) => Excess::Paired { mean, stderr: variance.sqrt(), items },
            None => Excess::Exact(mean),
        }
    }
}

/// After how many stages networks may be dropped: not the last, and not before every task has items enough.
fn looks(session: &Session, stages: &[Vec<Part>]) -> usize {
    let before_the_end = &stages[..stages.len().saturating_sub(1)];
    let enough = |stage: &&Vec<Part>| stage.iter().all(|&part| items_in(session, part) >= LEAST_ITEMS);
    before_the_end.iter().filter(enough).count()
}

/// The first chunks of each part, as many as a stage has.
fn first_chunks(split: &[Part], stage: &[usize]) -> Vec<Part> {
    split.iter().zip(stage).map(|(part, &chunks)| Part { chunks, ..*part }).collect()
}

/// How many items of its eval set a part has.
fn items_in(session: &Session, part: Part) -> usize {
    session.set(part.set).chunks[part.chunks - 1].items.end
}

/// The share of its eval set's items that a part leaves out.
fn unseen(session: &Session, part: Part) -> f64 {
    1.0 - items_in(session, part) as f64 / session.set(part.set).items.len() as f64
}
