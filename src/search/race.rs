//! A population races over the chunks of the search split: what surely is not on the front is dropped on the way.

use std::collections::HashMap;

use super::ClosedForm;
use super::journal::Journal;
use super::pareto;
use super::racing::{Excess, Racing, surely_dominated};
use super::record::Evaluation;
use super::run::{Progress, Run, State};
use super::scoring::{Part, Scores};
use crate::error::Result;
use crate::eval::{ChunkId, Contribution, Evaluator, Metric, Objective, Work};
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

/// What is known of a network while it races.
struct Racer<'a> {
    genome: &'a Genome,
    /// Losses that need no scoring: those objectives', and the violation of such constraints.
    exact: Vec<f64>,
    /// One list a quantity and task of it: the items' contributions.
    measured: Vec<Vec<Vec<Contribution>>>,
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

    /// The networks of the front so far, which newcomers must not be surely worse than.
    fn champions(&self, state: &State) -> Vec<Genome> {
        if self.settings.racing.is_none() {
            return Vec::new();
        }
        let whole: Vec<&Evaluation> =
            state.evaluations.iter().filter(|row| self.is_whole(row) && row.violation == 0.0).collect();
        let losses: Vec<Vec<f64>> = whole.iter().map(|row| self.losses(row)).collect();
        pareto::non_dominated(&losses).into_iter().map(|place| whole[place].genome.clone()).collect()
    }

    fn race(
        &self,
        evaluator: &mut dyn Evaluator,
        journal: &mut Journal,
        genomes: &[Genome],
        champions: &[Genome],
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
        let mut dropped = Dropped::new();
        for (number, stage) in stages.iter().enumerate() {
            let parts: Vec<Part> = split.iter().zip(stage).map(|(part, &chunks)| Part { chunks, ..*part }).collect();
            let left: Vec<Genome> = genomes.iter().filter(|genome| !dropped.contains_key(genome)).cloned().collect();
            self.score(evaluator, journal, &parts, &left, on_progress)?;
            if number + 1 == stages.len() {
                break;
            }
            let scores = Scores { run: self, sets: &sets, journal };
            let racer = |genome| self.racer(genome, &scores, &parts, &closed_form);
            let racers: Vec<Racer> = left.iter().chain(champions).filter_map(racer).collect();
            let share: Vec<f64> = split
                .iter()
                .zip(stage)
                .map(|(part, &chunks)| {
                    let items = sets[part.set].chunks[chunks - 1].items.end;
                    1.0 - items as f64 / sets[part.set].items.len() as f64
                })
                .collect();
            for racer in racers.iter().filter(|racer| !champions.contains(racer.genome)) {
                if let Some(rival) = self.better(racer, &racers, &share, &racing, stages.len()) {
                    dropped.insert(racer.genome.clone(), (parts.clone(), rival.clone()));
                }
            }
        }
        Ok(dropped)
    }

    /// A network that surely dominates this one, and of several the best.
    fn better<'a>(
        &self,
        racer: &Racer,
        racers: &[Racer<'a>],
        unseen: &[f64],
        racing: &Racing,
        stages: usize,
    ) -> Option<&'a Genome> {
        let no_worse = |rival: &&Racer| {
            rival.genome != racer.genome && racer.exact.iter().zip(&rival.exact).all(|(ours, theirs)| theirs <= ours)
        };
        let rivals: Vec<&Racer> = racers.iter().filter(no_worse).collect();
        let level = racing.level(rivals.len(), stages);
        let quantities = self.quantities();
        let mut best: Option<(f64, &Genome)> = None;
        for rival in rivals {
            let exact = racer.exact.iter().zip(&rival.exact).map(|(ours, theirs)| Excess::Exact(ours - theirs));
            let measured = quantities
                .iter()
                .enumerate()
                .map(|(place, one)| self.excess(one, &racer.measured[place], &rival.measured[place], unseen));
            let excess: Vec<Excess> = measured.chain(exact).collect();
            let margin = excess[0].mean();
            if surely_dominated(&excess, level) && best.is_none_or(|(most, _)| margin > most) {
                best = Some((margin, rival.genome));
            }
        }
        best.map(|(_, genome)| genome)
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
        let (mut mean, mut variance, mut items) = (0.0, 0.0, usize::MAX);
        for ((ours, theirs), task) in ours.iter().zip(theirs).zip(quantity.objective.tasks()) {
            let unseen = unseen[self.task_place(task)];
            let difference = quantity.metric.difference(ours, theirs);
            mean += quantity.sign * difference.value / tasks;
            variance += unseen * (difference.stderr / tasks).powi(2);
            items = items.min(ours.len());
        }
        Excess::Paired { mean, stderr: variance.sqrt(), items }
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

    /// What is known of a network so far; nothing where it failed.
    fn racer<'a>(
        &self,
        genome: &'a Genome,
        scores: &Scores,
        parts: &[Part],
        closed_form: &ClosedForm,
    ) -> Option<Racer<'a>> {
        let mut measured = Vec::new();
        for quantity in self.quantities() {
            let task = |task: &String| scores.contributions(genome, parts[self.task_place(task)], quantity.metric);
            measured.push(quantity.objective.tasks().iter().map(task).collect::<Result<Vec<_>, String>>().ok()?);
        }
        let known = closed_form(genome);
        let exact = known.losses.into_iter().flatten().chain([known.violation]).collect();
        Some(Racer { genome, exact, measured })
    }
}
