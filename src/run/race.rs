//! A population races over the chunks of the search split: what surely is not on the front is dropped on the way.

use std::collections::HashMap;

use super::evaluations::Evaluation;
use super::journal::Journal;
use super::racing::{Excess, LEAST_ITEMS, Racing, surely_dominated};
use super::run::{Progress, Run, State};
use super::scoring::{Part, Scores};
use crate::error::Result;
use crate::eval::{ChunkId, Contribution, EvalSet, Evaluator, Metric, Objective, Work};
use crate::pareto::non_dominated;
use crate::search::ClosedForm;
use crate::space::{Bound, Genome};

/// The networks that lost their race: what each was scored on, and which network surely dominates it.
pub(super) type Dropped = HashMap<Genome, (Vec<Part>, Genome)>;

/// A measured quantity that rivals are compared in: an objective, or the objective of a constraint.
struct Quantity<'a> {
    objective: &'a Objective,
    metric: Metric,
    /// 1 where larger is worse, else -1.
    sign: f64,
}

impl Run {
    /// Scores a population, each network as far as it races, and makes its rows.
    pub(super) fn evaluate(
        &self,
        evaluator: &mut dyn Evaluator,
        journal: &mut Journal,
        state: &State,
        genomes: &[Genome],
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Evaluation>> {
        let dropped = self.race(evaluator, journal, genomes, &self.champions(state), on_progress)?;
        let scores = Scores { run: self, sets: evaluator.sets(), journal };
        let row = |(place, genome)| scores.row(state.evaluations.len() + place, state.populations, genome, &dropped);
        genomes.iter().enumerate().map(row).collect()
    }

    /// Scores what the journal does not hold yet.
    pub(super) fn score(
        &self,
        evaluator: &mut dyn Evaluator,
        journal: &mut Journal,
        parts: &[Part],
        genomes: &[Genome],
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let sets = evaluator.sets().clone();
        let (mut total, mut missing) = (0, 0);
        let mut work = Vec::new();
        for part in parts {
            for chunk in 0..part.chunks {
                let chunk = ChunkId { set: part.set, chunk };
                let unknown: Vec<Genome> =
                    genomes.iter().filter(|genome| journal.outcome(chunk, genome).is_none()).cloned().collect();
                total += genomes.len();
                missing += unknown.len();
                if !unknown.is_empty() {
                    work.push(Work { chunk, genomes: unknown });
                }
            }
        }
        let mut done = total - missing;
        evaluator.evaluate(work, &mut |partial| {
            journal.append(&sets, partial)?;
            done += 1;
            on_progress(Progress::Scored { done, total });
            Ok(())
        })
    }

    /// The front so far, which newcomers must not be surely worse than.
    fn champions<'a>(&self, state: &'a State) -> Vec<&'a Evaluation> {
        let whole: Vec<&Evaluation> =
            state.evaluations.iter().filter(|row| self.is_whole(row) && row.violation == 0.0).collect();
        let losses: Vec<Vec<f64>> = whole.iter().map(|row| self.losses(row)).collect();
        non_dominated(&losses).into_iter().map(|place| whole[place]).collect()
    }

    fn race(
        &self,
        evaluator: &mut dyn Evaluator,
        journal: &mut Journal,
        genomes: &[Genome],
        champions: &[&Evaluation],
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Dropped> {
        let sets = evaluator.sets().clone();
        let split = Scores { run: self, sets: &sets, journal }.split("search");
        let chunks: Vec<usize> = split.iter().map(|part| part.chunks).collect();
        let Some(racing) = self.settings.racing else {
            self.score(evaluator, journal, &split, genomes, on_progress)?;
            return Ok(Dropped::new());
        };
        let closed_form = self.settings.closed_form()?;
        let stages = Racing::stages(&chunks);
        let looks = self.looks(&sets, &split, &stages);
        let mut dropped = Dropped::new();
        for stage in &stages {
            let parts = first_chunks(&split, stage);
            let left: Vec<Genome> = genomes.iter().filter(|genome| !dropped.contains_key(genome)).cloned().collect();
            self.score(evaluator, journal, &parts, &left, on_progress)?;
            let unseen = unseen(&sets, &parts);
            if unseen.iter().all(|&share| share == 0.0) {
                break;
            }
            let scores = Scores { run: self, sets: &sets, journal };
            for genome in &left {
                let rivals = self.rivals(genome, champions, &closed_form);
                let level = racing.level(rivals.len(), looks);
                let beaten = |rival: &&&Genome| {
                    let excess = self.excesses(genome, rival, &scores, &parts, &unseen, &closed_form);
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
    fn rivals<'a>(&self, genome: &Genome, champions: &[&'a Evaluation], closed_form: &ClosedForm) -> Vec<&'a Genome> {
        let ours = exact_losses(closed_form, genome);
        let no_worse = |row: &&&Evaluation| {
            row.genome != *genome && exact_losses(closed_form, &row.genome).iter().zip(&ours).all(|(a, b)| a <= b)
        };
        let rivals: Vec<&&Evaluation> = champions.iter().filter(no_worse).collect();
        let measured = (0..self.objectives.len()).filter(|&place| self.objectives[place].metric().is_some());
        let best = |place: usize| {
            let loss = |row: &Evaluation| self.losses(row)[place];
            rivals.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).map(|row| &row.genome)
        };
        let mut best: Vec<&Genome> = measured.filter_map(best).collect();
        best.dedup();
        best
    }

    /// By how much a network's loss exceeds a rival's in one quantity: the mean over its tasks of paired differences.
    /// `unseen` is the share of each task's items that neither was scored on.
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
            let unseen = unseen[self.task_place(task)];
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

    fn quantities(&self) -> Vec<Quantity<'_>> {
        let objectives = self.objectives.iter().map(|objective| (objective, objective.maximize()));
        let limits = self.limits.iter().map(|(objective, limit)| (objective, limit.bound == Bound::AtLeast));
        let measured = |(objective, maximize): (_, bool)| {
            let objective: &Objective = objective;
            let sign = if maximize { -1.0 } else { 1.0 };
            objective.metric().map(|metric| Quantity { objective, metric, sign })
        };
        objectives.chain(limits).filter_map(measured).collect()
    }

    /// By how much a network's losses exceed a rival's on the items of both; nothing where one failed.
    fn excesses(
        &self,
        genome: &Genome,
        rival: &Genome,
        scores: &Scores,
        parts: &[Part],
        unseen: &[f64],
        closed_form: &ClosedForm,
    ) -> Option<Vec<Excess>> {
        let (ours, theirs) = (exact_losses(closed_form, genome), exact_losses(closed_form, rival));
        let mut excess: Vec<Excess> = ours.iter().zip(&theirs).map(|(a, b)| Excess::Exact(a - b)).collect();
        for quantity in self.quantities() {
            let of = |genome: &Genome| {
                let task = |task: &String| scores.contributions(genome, parts[self.task_place(task)], quantity.metric);
                quantity.objective.tasks().iter().map(task).collect::<Result<Vec<_>, String>>().ok()
            };
            excess.push(self.excess(&quantity, &of(genome)?, &of(rival)?, unseen));
        }
        Some(excess)
    }

    /// After how many stages networks may be dropped: not the last, and not before every task has items enough.
    fn looks(&self, sets: &[EvalSet], split: &[Part], stages: &[Vec<usize>]) -> usize {
        let before_the_end = &stages[..stages.len().saturating_sub(1)];
        let enough = |stage: &&Vec<usize>| {
            let parts = first_chunks(split, stage);
            parts.iter().all(|part| sets[part.set].chunks[part.chunks - 1].items.end >= LEAST_ITEMS)
        };
        before_the_end.iter().filter(enough).count()
    }
}

/// The losses that need no scoring, and the violation of such constraints.
fn exact_losses(closed_form: &ClosedForm, genome: &Genome) -> Vec<f64> {
    let known = closed_form(genome);
    known.losses.into_iter().flatten().chain([known.violation]).collect()
}

/// The first chunks of each part, as many as a stage has.
fn first_chunks(split: &[Part], stage: &[usize]) -> Vec<Part> {
    split.iter().zip(stage).map(|(part, &chunks)| Part { chunks, ..*part }).collect()
}

/// The share of each task's items that these parts leave out.
fn unseen(sets: &[EvalSet], parts: &[Part]) -> Vec<f64> {
    let share = |part: &Part| {
        let set = &sets[part.set];
        1.0 - set.chunks[part.chunks - 1].items.end as f64 / set.items.len() as f64
    };
    parts.iter().map(share).collect()
}
