//! Cascades of a run's front: from the scores that it has on record.

use std::path::Path;

use super::answers::{Answers, Choosing};
use super::bootstrap::{Bootstrap, DRAWS};
use super::cascade::{Cascade, FORMAT, Stage};
use super::costs::{Budget, Costs};
use super::fitting::{Chain, fit};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::eval::Objective;
use crate::run::{Front, Recorded, RunSettings};
use crate::space::Genome;
use crate::task::Split;

/// Networks that chains are made of at most: of larger fronts as many, evenly spread.
const CANDIDATES: usize = 24;

/// The networks of a run's front with their answers to the questions of one of its tasks.
pub struct OfRun {
    run: String,
    task: String,
    choosing: Choosing,
    settings: RunSettings,
    ids: Vec<usize>,
    genomes: Vec<Genome>,
    search: Answers,
    held_out: Answers,
}

impl OfRun {
    /// Reads what a finished run on `checkpoint` has on record. `objective` is `accuracy:TASK` or `acc_norm:TASK`.
    ///
    /// # Errors
    /// A run without a model or that is not finished, other objectives, tasks that the run does not have or that have nothing to choose from,
    /// and [`Recorded::open`]'s.
    pub fn open(
        dir: &Path,
        settings: RunSettings,
        checkpoint: &Checkpoint,
        data: &Path,
        objective: &str,
    ) -> Result<OfRun> {
        let parsed = Objective::parse(objective)?;
        let choosing = parsed.metric().and_then(|metric| Choosing::named(metric.name()));
        let (Some(choosing), [task]) = (choosing, parsed.tasks()) else {
            return Err(Error::invalid("objective", objective, "`accuracy:TASK` or `acc_norm:TASK`"));
        };
        let front = Front::read_json(&dir.join("front.json"))?;
        let mut points: Vec<_> = front.points.iter().collect();
        if !points.iter().any(|point| point.genome == front.parent.genome) {
            points.push(&front.parent);
        }
        let count = points.len().min(CANDIDATES);
        let spread = |place: usize| if count == 1 { 0 } else { place * (points.len() - 1) / (count - 1) };
        let points: Vec<_> = (0..count).map(|place| points[spread(place)]).collect();
        let genomes: Vec<Genome> = points.iter().map(|point| point.genome.clone()).collect();
        let recorded = Recorded::open(dir, &settings, checkpoint, data)?;
        let answers = |split| {
            let (set, scores) = recorded.scores(task, split, &genomes)?;
            Answers::of(set, &scores, choosing)
        };
        let name =
            dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned());
        Ok(OfRun {
            run: name,
            task: task.clone(),
            choosing,
            ids: points.iter().map(|point| point.id).collect(),
            search: answers(Split::Search)?,
            held_out: answers(Split::HeldOut)?,
            genomes,
            settings,
        })
    }

    /// The cascade that is right most often on the search items within a budget, judged on the held-out ones.
    ///
    /// # Errors
    /// `Invalid` for a budget that no network meets, with what the cheapest one costs.
    pub fn cascade(&self, budget: &Budget) -> Result<Cascade> {
        let OfRun { settings, genomes, search, held_out, .. } = self;
        let costs = Costs::new(budget, settings.space.shape(), settings.frozen.throughput.as_ref(), genomes)?;
        let most = budget.most();
        let [all, others] = [search, held_out].map(|answers| (0..answers.len()).collect::<Vec<_>>());
        let none = || {
            let mut order: Vec<usize> = (0..genomes.len()).collect();
            order.sort_by(|&a, &b| costs.of[a].total_cmp(&costs.of[b]));
            let has = |&place: &usize| {
                format!("{} with {} {:.4e}", self.ids[place], budget.name(), budget.said(costs.of[place]))
            };
            let nearest: Vec<String> = order.iter().take(2).map(has).collect();
            let expected = format!("one that a network of the front meets; the nearest are {}", nearest.join(" and "));
            Error::invalid("budget", budget, expected)
        };
        let chain = fit(search, &costs, most, &all).ok_or_else(none)?;
        Ok(Cascade {
            format: FORMAT,
            model_digest: settings.model_digest.clone(),
            run: self.run.clone(),
            task: self.task.clone(),
            choosing: self.choosing,
            budget: budget.to_string(),
            stages: self.stages(&chain),
            search: chain.judge(&costs, most, (search, &all), (search, &all)),
            held_out: chain.judge(&costs, most, (search, &all), (held_out, &others)),
            bootstrap: Bootstrap::draw(search, held_out, &costs, most, DRAWS, settings.seed),
        })
    }

    fn stages(&self, chain: &Chain) -> Vec<Stage> {
        let stage = |(place, (&network, &confidence)): (usize, (&usize, &super::Confidence))| Stage {
            id: self.ids[network],
            genome: self.genomes[network].clone(),
            confidence,
            threshold: chain.thresholds.get(place).copied(),
        };
        chain.networks.iter().zip(&chain.confidences).enumerate().map(stage).collect()
    }
}
