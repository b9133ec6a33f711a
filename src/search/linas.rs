//! LINAS (Cummings et al., "A Hardware-Aware Framework for Accelerating Neural Architecture Search Across
//! Modalities", 2022), the search of LLaMA-NAS: measure a population, learn to predict from all that was measured,
//! let NSGA-II breed for hundreds of generations on the predictions, measure the best, and again.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::algorithm::{Algorithm, ClosedForm, Told};
use super::asked::Asked;
use super::kind::{AlgorithmKind, Beginning, restored};
use super::knapsack::knapsack_front;
use super::nsga2::{Nsga2, Nsga2Settings};
use super::scored::Scored;
use super::surrogate::{OneHot, Points, Prediction, Predictor};
use super::survival::rank_and_crowding;
use super::worth::Worth;
use crate::count::Population;
use crate::error::{Error, Result};
use crate::space::{Genome, SearchSpace};

/// LINAS by name.
pub const LINAS: AlgorithmKind = AlgorithmKind {
    name: "linas",
    about: "LINAS: learns to predict scores, and breeds on predictions in between",
    frozen: |population| {
        let LinasSettings { generations, explore, inner, .. } = LinasSettings::new(population);
        json!({
            "name": "linas",
            "population": population,
            "predictor": "ridge",
            "validation": "forward",
            "inner_generations": generations,
            "inner_population": inner.population,
            "explore": explore,
        })
    },
    begin: |Beginning { space, closed_form, population, worth, first, seed }| {
        let linas = Linas::new(space, closed_form, LinasSettings::new(population), first, seed)?;
        Ok(Box::new(linas.knowing(worth.cloned())))
    },
};

/// How [`Linas`] searches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinasSettings {
    /// Genomes that are asked for at a time.
    pub population: usize,
    /// Generations that are bred on predictions before a population is asked for.
    pub generations: usize,
    /// Share of a population that is drawn at random instead, so that predictors also see what they think little of.
    pub explore: f64,
    /// How the generations on predictions are bred.
    pub inner: Nsga2Settings,
}

impl LinasSettings {
    /// The customary settings for a population of this size: 200 generations of at least 50 genomes.
    pub fn new(population: usize) -> LinasSettings {
        LinasSettings { population, generations: 200, explore: 0.1, inner: Nsga2Settings::new(population.max(50)) }
    }

    fn check(&self) -> Result<()> {
        Population::check("population size", self.population)?;
        Population::check("generations on predictions", self.generations)?;
        if !(0.0..=1.0).contains(&self.explore) {
            return Err(Error::invalid("share drawn at random", self.explore, "a share between 0 and 1"));
        }
        self.inner.check()
    }
}

/// The state of a [`Linas`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinasState {
    settings: LinasSettings,
    rng: ChaCha8Rng,
    asked: Asked,
    /// Populations told so far.
    told: usize,
    /// What the predictors learn from.
    measured: Vec<Scored>,
    /// What was predicted of the population that was asked for last.
    forecast: Vec<Scored>,
    predictions: Vec<Prediction>,
}

/// LINAS: NSGA-II on predictions between populations that are measured.
///
/// Objectives that a closed form gives are never predicted, and its constraints hold among predictions too; limits on
/// measured values only count when they are measured. Failed evaluations teach nothing. Nothing is asked for twice.
#[derive(Clone)]
pub struct Linas {
    space: SearchSpace,
    closed_form: ClosedForm,
    encoding: OneHot,
    worth: Option<Worth>,
    state: LinasState,
}

impl Linas {
    /// A search that asks for `first`, then for what is predicted to be best. An empty `first` is a random population.
    ///
    /// # Errors
    /// A population or number of generations of 0, a rate or share that is none.
    pub fn new(
        space: &SearchSpace,
        closed_form: &ClosedForm,
        settings: LinasSettings,
        first: Vec<Genome>,
        seed: u64,
    ) -> Result<Linas> {
        let state = LinasState {
            settings,
            rng: ChaCha8Rng::seed_from_u64(seed),
            asked: Asked::starting_with(first),
            told: 0,
            measured: Vec::new(),
            forecast: Vec::new(),
            predictions: Vec::new(),
        };
        Linas::resume(space, closed_form, state)
    }

    /// The search that was in this state.
    ///
    /// # Errors
    /// A population or number of generations of 0, a rate or share that is none.
    pub fn resume(space: &SearchSpace, closed_form: &ClosedForm, state: LinasState) -> Result<Linas> {
        state.settings.check()?;
        let encoding = OneHot::new(space);
        Ok(Linas { space: space.clone(), closed_form: closed_form.clone(), encoding, worth: None, state })
    }

    /// The same, with what the model's ranking says that networks lack: predictions begin with that.
    pub fn knowing(self, worth: Option<Worth>) -> Linas {
        Linas { worth, ..self }
    }

    fn lacks(&self, genome: &Genome) -> [f64; 2] {
        self.worth.as_ref().map_or([0.0; 2], |worth| worth.lacks(genome))
    }

    /// What the measured genomes teach; nothing before any was measured.
    fn surrogate(&self) -> Option<Surrogate<'_>> {
        let LinasState { measured, settings, .. } = &self.state;
        let losses = (self.closed_form)(&measured.first()?.genome).losses;
        let points: Vec<&Scored> = measured.iter().filter(|point| point.objectives.len() == losses.len()).collect();
        let seen = Points {
            rows: points.iter().map(|point| self.encoding.row(&point.genome)).collect(),
            columns: self.encoding.columns(),
            lacks: points.iter().map(|point| self.lacks(&point.genome)).collect(),
            population: settings.population,
        };
        let predictor = |objective: usize| {
            let targets: Vec<f64> = points.iter().map(|point| point.objectives[objective]).collect();
            Predictor::fit(&seen, &targets)
        };
        let predictors = losses.iter().enumerate().map(|(place, loss)| loss.is_none().then(|| predictor(place)));
        Some(Surrogate { search: self, predictors: predictors.collect() })
    }

    /// Up to `count` genomes that were never asked for: of all that NSGA-II meets on predictions, starting from the best
    /// measured ones and from the exact fronts of predictions, those on the first fronts with the most room around them.
    fn breed(&self, surrogate: &Surrogate, seed: u64, count: usize) -> Vec<Genome> {
        let LinasSettings { generations, inner, .. } = &self.state.settings;
        let best = best_of(&self.state.measured, inner.population);
        let best = best.into_iter().map(|place| self.state.measured[place].genome.clone());
        let first = best.chain(surrogate.fronts(inner.population)).collect();
        let mut nsga2 = Nsga2::new(&self.space, inner.clone(), first, seed).expect("settings were checked");
        let mut met: Vec<Scored> = Vec::new();
        for _ in 0..=*generations {
            let genomes = nsga2.ask();
            if genomes.is_empty() {
                break;
            }
            let scored: Vec<Scored> = genomes.par_iter().map(|genome| surrogate.score(genome)).collect();
            let told: Vec<Told> = scored.iter().map(Scored::told).collect();
            nsga2.tell(&genomes, &told);
            met.extend(scored.into_iter().filter(|scored| !self.state.asked.contains(&scored.genome)));
        }
        // Room changes as neighbours go, so they go a few at a time.
        let mut keep = 4 * count;
        while keep > count {
            met = best_of(&met, keep).into_iter().map(|place| met[place].clone()).collect();
            keep = (keep * 9 / 10).max(count);
        }
        best_of(&met, count).into_iter().map(|place| met[place].genome.clone()).collect()
    }

    /// Compares the forecast with what is told now.
    fn judge(&mut self, genomes: &[Genome], results: &[Told]) {
        let LinasState { forecast, measured, told, predictions, .. } = &mut self.state;
        let Some(point) = forecast.first() else { return };
        let losses = (self.closed_form)(&point.genome).losses;
        let pairs: Vec<(&Scored, &[f64])> = genomes
            .iter()
            .zip(results)
            .filter_map(|(genome, result)| {
                let forecast = forecast.iter().find(|scored| scored.genome == *genome)?;
                Some((forecast, result.score()?)).filter(|(_, score)| score.len() == losses.len())
            })
            .collect();
        for (objective, _) in losses.iter().enumerate().filter(|(_, loss)| loss.is_none()) {
            if pairs.len() < 2 {
                continue;
            }
            let (predicted, found): (Vec<f64>, Vec<f64>) =
                pairs.iter().map(|(forecast, score)| (forecast.objectives[objective], score[objective])).unzip();
            let judged = Prediction::judge(measured.len(), &predicted, &found);
            predictions.push(Prediction { population: *told, objective, ..judged });
        }
    }
}

impl Algorithm for Linas {
    fn ask(&mut self) -> Vec<Genome> {
        self.state.forecast.clear();
        if let Some(first) = self.state.asked.take_first() {
            return first;
        }
        let count = self.state.settings.population;
        let explored = (count as f64 * self.state.settings.explore).round() as usize;
        let seed = self.state.rng.random();
        let mut population = Vec::with_capacity(count);
        let surrogate = self.surrogate();
        let bred = surrogate.as_ref().map_or(Vec::new(), |surrogate| self.breed(surrogate, seed, count - explored));
        let predictors = surrogate.map(|surrogate| surrogate.predictors);
        self.state.asked.take_new(&mut population, bred, count);
        self.state.asked.draw(&self.space, &mut self.state.rng, &mut population, count);
        if let Some(predictors) = predictors {
            let surrogate = Surrogate { search: self, predictors };
            self.state.forecast = population.iter().map(|genome| surrogate.score(genome)).collect();
        }
        population
    }

    fn tell(&mut self, genomes: &[Genome], results: &[Told]) {
        self.judge(genomes, results);
        let LinasState { asked, measured, forecast, told: populations, .. } = &mut self.state;
        for (genome, _) in genomes.iter().zip(results) {
            asked.note(genome);
        }
        Scored::learn(measured, genomes, results);
        forecast.clear();
        *populations += 1;
    }

    fn name(&self) -> &str {
        LINAS.name
    }

    fn state(&self) -> Value {
        json!(self.state)
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        let state: LinasState = restored(self.name(), state)?;
        state.settings.check()?;
        if state.told > state.asked.count() {
            let expected = format!("as many as genomes were asked for at most, {}", state.asked.count());
            return Err(Error::invalid("populations told", state.told, expected));
        }
        for Scored { genome, objectives, .. } in &state.forecast {
            let expected = (self.closed_form)(genome).losses.len();
            if objectives.len() != expected {
                let found = format!("{} objectives of {genome}", objectives.len());
                return Err(Error::invalid("forecast", found, expected.to_string()));
            }
        }
        self.state = state;
        Ok(())
    }

    fn can_follow(&self, genomes: &[Genome], results: &[Told], cut: bool) -> bool {
        self.state.asked.can_be(genomes, cut) && Scored::are_of(&self.state.measured, genomes, results)
    }

    fn predictions(&self) -> &[Prediction] {
        &self.state.predictions
    }
}

/// Scores genomes without measuring them.
struct Surrogate<'a> {
    search: &'a Linas,
    /// One an objective; none where the closed form gives it.
    predictors: Vec<Option<Predictor>>,
}

impl Surrogate<'_> {
    /// Where predictions are sums over layers: for each of them up to `count` networks of its front against size, as evenly as they
    /// lie on it.
    fn fronts(&self, count: usize) -> Vec<Genome> {
        let of = |predictor: &Predictor| {
            let predict =
                |genome: &Genome| predictor.predict(&self.search.encoding.row(genome), self.search.lacks(genome));
            let front = knapsack_front(&self.search.space, &predict);
            let step = front.len().div_ceil(count.max(1)).max(1);
            front.into_iter().step_by(step)
        };
        self.predictors.iter().flatten().flat_map(of).collect()
    }

    fn score(&self, genome: &Genome) -> Scored {
        let exact = (self.search.closed_form)(genome);
        let (row, lacks) = (self.search.encoding.row(genome), self.search.lacks(genome));
        let objective = |(predictor, loss): (&Option<Predictor>, &Option<f64>)| {
            let loss = loss.or_else(|| predictor.as_ref().map(|predictor| predictor.predict(&row, lacks)));
            loss.filter(|loss| loss.is_finite()).unwrap_or(f64::MAX)
        };
        let objectives = self.predictors.iter().zip(&exact.losses).map(objective).collect();
        let violation = if exact.violation.is_finite() { exact.violation.max(0.0) } else { f64::MAX };
        Scored { genome: genome.clone(), objectives, violation }
    }
}

/// Places of the `count` that survive among these, as in NSGA-II.
fn best_of(scored: &[Scored], count: usize) -> Vec<usize> {
    let (points, violations) = Scored::columns(scored);
    rank_and_crowding(&points, &violations, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pareto::hypervolume;
    use crate::search::{Exact, stratified};
    use crate::space::Cost;
    use std::sync::Arc;

    fn space() -> SearchSpace {
        SearchSpace::from_yaml(
            "{ shape: { layers: 12, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [10, 12], heads: [2, 4], mlp: [0, 32, 64, 128] }",
        )
        .unwrap()
    }

    fn params(space: &SearchSpace, genome: &Genome) -> f64 {
        Cost::of(space.shape(), genome).params as f64
    }

    /// The first objective must be measured, the second is the number of parameters.
    fn closed_form(space: &SearchSpace, limit: f64) -> ClosedForm {
        let space = space.clone();
        Arc::new(move |genome| {
            let params = params(&space, genome);
            Exact { losses: vec![None, Some(params)], violation: (params - limit) / limit }
        })
    }

    /// What the removed parts were worth: additive in the layers, of very different importance, and little left of an
    /// order by size alone.
    fn damage(genome: &Genome) -> f64 {
        let importance = |layer: usize, half: usize| f64::from([1, 9, 2, 14, 3, 5, 25, 4][(layer * 2 + half * 3) % 8]);
        let left = |layer: usize| {
            let gene = genome.genes()[layer];
            importance(layer, 0) * f64::from(gene.heads).sqrt() / 2.0
                + importance(layer, 1) * (f64::from(gene.mlp) / 128.0).sqrt()
        };
        let whole: f64 = (0..12).map(|layer| importance(layer, 0) + importance(layer, 1)).sum();
        whole - (0..12).map(left).sum::<f64>()
    }

    fn run(algorithm: &mut dyn Algorithm, space: &SearchSpace, evaluations: usize) -> Vec<(Genome, [f64; 2])> {
        let mut all = Vec::new();
        while all.len() < evaluations {
            let genomes = algorithm.ask();
            let points: Vec<[f64; 2]> = genomes.iter().map(|genome| [damage(genome), params(space, genome)]).collect();
            let told: Vec<Told> = points.iter().map(|point| Told::feasible(*point)).collect();
            algorithm.tell(&genomes, &told);
            all.extend(genomes.into_iter().zip(points));
        }
        all
    }

    #[test]
    fn beats_nsga2_at_equal_evaluations() {
        let space = space();
        let reference = [damage(&space.smallest()), params(&space, &space.largest())];
        let low = params(&space, &space.smallest());
        let volume = |found: Vec<(Genome, [f64; 2])>| {
            let points: Vec<[f64; 2]> = found.into_iter().map(|(_, point)| point).collect();
            hypervolume(&points, &reference) / (reference[0] * (reference[1] - low))
        };
        for seed in 0..4 {
            let rng = &mut ChaCha8Rng::seed_from_u64(seed);
            let first = stratified(&space, 16, rng, |genome| params(&space, genome) as u64);
            let mut nsga2 = Nsga2::new(&space, Nsga2Settings::new(16), first.clone(), seed).unwrap();
            let by_nsga2 = volume(run(&mut nsga2, &space, 96));
            let settings = LinasSettings { generations: 60, ..LinasSettings::new(16) };
            let mut linas = Linas::new(&space, &closed_form(&space, f64::MAX), settings, first, seed).unwrap();
            let by_linas = volume(run(&mut linas, &space, 96));
            assert!(by_linas > by_nsga2 + 0.02, "seed {seed}: {by_linas:.4} against {by_nsga2:.4}");
            let last = linas.predictions().last().unwrap();
            assert!((last.population, last.points) == (5, 80) && last.kendall_tau > 0.9, "{last:?}");
        }
    }

    #[test]
    fn asks_for_what_is_allowed_by_the_closed_form() {
        let space = space();
        let limit = (params(&space, &space.largest()) + params(&space, &space.smallest())) / 2.0;
        let settings = LinasSettings { generations: 40, explore: 0.25, ..LinasSettings::new(12) };
        let mut linas = Linas::new(&space, &closed_form(&space, limit), settings, Vec::new(), 1).unwrap();
        run(&mut linas, &space, 24);
        let population = linas.ask();
        // 9 of 12 are bred, the others drawn at random.
        assert!(population[..9].iter().all(|genome| params(&space, genome) <= limit));
        assert_eq!(population.len(), 12);
    }

    #[test]
    fn learns_nothing_from_failures_and_judges_what_it_predicted() {
        let space = space();
        let settings = LinasSettings { generations: 5, ..LinasSettings::new(8) };
        let mut linas = Linas::new(&space, &closed_form(&space, f64::MAX), settings, Vec::new(), 1).unwrap();
        let genomes = linas.ask();
        linas.tell(&genomes, &vec![Told::failed(); 8]);
        assert!(linas.state.measured.is_empty());
        let genomes = linas.ask();
        assert_eq!(genomes.len(), 8, "with nothing to learn from it draws at random");
        let told: Vec<Told> =
            genomes.iter().map(|genome| Told::feasible([damage(genome), params(&space, genome)])).collect();
        linas.tell(&genomes, &told);
        assert!(linas.predictions().is_empty(), "nothing was predicted of it");
        let genomes = linas.ask();
        let forecast: Vec<f64> = linas.state.forecast.iter().map(|scored| scored.objectives[0]).collect();
        // As predicted, but for one that fails and one twice as bad.
        let mut told: Vec<Told> = forecast.iter().map(|&value| Told::feasible([value, 1.0])).collect();
        told[3] = Told::feasible([f64::NAN, 1.0]);
        told[5] = Told::feasible([2.0 * forecast[5], 1.0]);
        linas.tell(&genomes, &told);
        let [row] = linas.predictions() else { panic!("one objective is predicted") };
        assert_eq!((row.population, row.objective, row.points, row.networks), (2, 0, 8, 7));
        assert!((row.mape.unwrap() - 0.5 / 7.0).abs() < 1e-12, "{row:?}");
    }

    #[test]
    fn rejects_settings_out_of_range() {
        let space = space();
        let good = LinasSettings::new(10);
        for (settings, message) in [
            (
                LinasSettings { generations: 0, ..good.clone() },
                "generations on predictions: found 0, expected a number from 1 to 1000000",
            ),
            (
                LinasSettings { explore: 1.5, ..good.clone() },
                "share drawn at random: found 1.5, expected a share between 0 and 1",
            ),
            (
                LinasSettings { inner: Nsga2Settings::new(0), ..good },
                "population size: found 0, expected a number from 1 to 1000000",
            ),
        ] {
            let closed_form = closed_form(&space, 1.0);
            let error = Linas::new(&space, &closed_form, settings, Vec::new(), 1).err().unwrap();
            assert_eq!(error.to_string(), message);
        }
    }
}
