//! A small made-up run for tests: plausible numbers from closed forms, no randomness.

use crate::run::{Column, Evaluation, Evaluations, Front, FrontPoint, HeldOut, OverBudgets};
use crate::space::shape::tests::SMOLLM2;
use crate::space::{Gene, Genome, ModelShape};

/// A front of `points` networks of `layers` layers, and the run it came from: the parent first, then the points, then as
/// many networks that are worse than they.
pub fn run(layers: usize, points: usize) -> (Front, Evaluations) {
    let shape = ModelShape { layers, ..SMOLLM2 };
    let point = |id: usize, share: f64| {
        let gene = |layer: usize| match (layer * 7 + id * 3) % 11 {
            0 if share < 1.0 => Gene::DROPPED,
            1 | 2 if share < 1.0 => Gene::new(6, 768),
            _ => Gene::new(9, if share < 1.0 { 1536 - 256 * (layer as u32 % 3) } else { 1536 }),
        };
        let held_out = |name: &str, value: f64, delta: f64| HeldOut {
            name: name.into(),
            items: 300,
            value,
            stderr: 0.028,
            delta,
            delta_stderr: if delta == 0.0 { 0.0 } else { 0.015 },
        };
        let lost = 0.25 * (1.0 - share) * (2.0 - share);
        let params = (134.5e6 * share).trunc();
        FrontPoint {
            id,
            genome: Genome::new((0..layers).map(gene)),
            values: [
                ("choice_nll:arc_easy", 1.1 + lost),
                ("params", params),
                ("weight_bytes", 2.0 * params),
                ("prefill_tps", 812.0 / share),
            ]
            .into_iter()
            .collect(),
            held_out: vec![
                held_out("accuracy:arc_easy", 0.51 - lost, 0.0 - lost),
                held_out("choice_nll:arc_easy", 1.12 + lost, lost),
            ],
            dominated_on_held_out: share < 1.0 && id % 4 == 2,
        }
    };
    let parent = point(0, 1.0);
    let share = |row: usize| 0.5 + 0.5 * row as f64 / points.max(2) as f64;
    let front: Vec<FrontPoint> = (0..points).map(|row| point(row + 1, share(row))).collect();
    let row = |id: usize, like: &FrontPoint, worse: f64| Evaluation {
        id,
        population: id / 16,
        genome: like.genome.clone(),
        items: 200,
        objectives: vec![like.value("choice_nll:arc_easy").unwrap() + worse, like.value("params").unwrap()],
        violation: 0.0,
        search_accuracy: vec![0.5 - worse],
        failed: None,
    };
    let best = std::iter::once(&parent).chain(&front).enumerate().map(|(id, like)| row(id, like, 0.0));
    let worse = front.iter().enumerate().map(|(id, like)| row(1 + points + id, like, 0.1));
    let rows: Vec<Evaluation> = best.chain(worse).collect();
    let column = |name: &str, unit: &str| Column { name: name.into(), unit: unit.into(), maximize: false };
    let worth =
        HeldOut { value: 0.412, stderr: 0.021, delta: -0.098, delta_stderr: 0.012, ..parent.held_out[0].clone() };
    let over_budgets = OverBudgets { from: 67_000_000, to: 134_000_000, scores: vec![worth] };
    let run = Front {
        shape,
        model: "SmolLM2-135M".into(),
        objectives: vec![column("choice_nll:arc_easy", "nats per item"), column("params", "parameters")],
        chance: vec![0.25],
        hypervolume: 0.271,
        over_budgets: Some(over_budgets),
        evaluations: rows.len(),
        points: front,
        parent,
    };
    let evaluations = Evaluations {
        objectives: run.objectives.iter().map(|column| column.name.clone()).collect(),
        tasks: vec!["arc_easy".into()],
        rows,
    };
    (run, evaluations)
}
