//! `criadero quantize`: a finished front after quantization, or the best bits for each layer of one network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use criadero::checkpoint::Checkpoint;
use criadero::eval::metrics::Contribution;
use criadero::eval::{EvalSet, Evaluator, LocalEvaluator, Metric, Objective, PackingOptions, Workers};
use criadero::run::{Change, Front, Pick, QuantizedFront, QuantizedPoint, RunSettings, RunTask};
use criadero::space::{Bits, BlockTypes, Constraint, Cost, Gene, Genome, ModelShape, SearchSpace};
use criadero::task::{Item, Split, split_items};

use super::eval::{Scored, default_threads, score};
use super::model::{DataArgs, DeviceArgs, ends_in, load_for, note_fallback, note_quantized_twice, open_checkpoint};
use super::picked::{picked, searched};
use super::plot::write_pictures;
use super::progress::Bar;
use super::search::{MAX_LENGTH, Search};

/// Items of a model's tasks when there is no run that says how many.
const HELD_OUT_ITEMS: usize = 400;

/// Score a finished front again after quantization, or search the bits of each layer of one network
#[derive(clap::Args)]
pub struct Quantize {
    /// A finished run, or one checkpoint
    #[arg(value_name = "RUN|MODEL")]
    from: PathBuf,
    /// How all matrices are stored: `8` (Q8_0), `4` (Q4_0), `q4_1`, ...; or `mixed`, to search the bits of each layer
    #[arg(long, value_name = "BITS|mixed", value_parser = parse_wanted)]
    bits: Wanted,
    /// How the embedding is stored, and the output matrix where it is another; by default as the layers, with `mixed` searched
    #[arg(long, value_name = "BITS")]
    embedding_bits: Option<Bits>,
    /// Task to score a model on, or to search its bits on; more than one may be given. A run has its own
    #[arg(long = "task", value_name = "TASK")]
    tasks: Vec<String>,
    /// Held-out items of each task; by default those of the run, or 400
    #[arg(long, value_name = "N")]
    held_out: Option<usize>,
    /// Directory of the result; by default `quantized-BITS` or `quantized-BITS-embedding-BITS` in the run
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which network of the run's front gets mixed bits: an id, `knee`, or the best within a limit
    #[arg(long)]
    pick: Option<Pick>,
    /// Bits that layers and ends of a mixed network may have
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "16,8,4")]
    choices: Vec<Bits>,
    /// Bytes that a mixed network may have, such as 80M: the hard constraint of its search
    #[arg(long, value_name = "BYTES")]
    budget: Option<String>,
    /// Networks that the search for mixed bits evaluates
    #[arg(long, value_name = "N", default_value_t = 100)]
    evals: usize,
    /// Networks of a population of that search
    #[arg(long, value_name = "N", default_value_t = 20)]
    population: usize,
    /// The first N items of each task's search split that it scores; by default as many as the run's search, or all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Its seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Uniform(Bits),
    Mixed,
}

fn parse_wanted(text: &str) -> Result<Wanted, criadero::Error> {
    if text == "mixed" { Ok(Wanted::Mixed) } else { text.parse().map(Wanted::Uniform) }
}

/// What is quantized: networks of a model, and the items they are scored on.
struct Subject {
    parent: Checkpoint,
    name: String,
    /// (id, network)
    networks: Vec<(usize, Genome)>,
    tasks: Vec<HeldOutTask>,
    packing: PackingOptions,
    threads: usize,
    of_a_run: bool,
}

/// A task's held-out items: so many, and what their digest must be.
struct HeldOutTask {
    name: String,
    items: usize,
    digest: Option<String>,
}

impl Quantize {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.bits {
            Wanted::Uniform(bits) => self.uniform(bits),
            Wanted::Mixed => self.mixed(),
        }
    }

    /// Every network before and after, on the same held-out items.
    fn uniform(&self, bits: Bits) -> anyhow::Result<()> {
        if bits.is_full() {
            bail!("--bits 16 is what there is already");
        }
        if self.pick.is_some() || self.budget.is_some() || self.limit.is_some() {
            bail!("--pick, --budget and --limit are for `--bits mixed`");
        }
        let subject = self.subject()?;
        let out = match (&self.out, subject.of_a_run) {
            (Some(out), _) => out.clone(),
            (None, true) => {
                let ends = self.embedding_bits.filter(|&ends| ends != bits);
                let ends = ends.map_or(String::new(), |ends| format!("-embedding-{ends}"));
                self.from.join(format!("quantized-{bits}{ends}"))
            }
            (None, false) => bail!("say where the result goes with --out DIR"),
        };
        note_quantized_twice(&subject.parent);
        let shape = subject.parent.config().shape;
        let ends = ends_in(&shape, self.embedding_bits.unwrap_or(bits));
        let mut all_after = Vec::with_capacity(subject.networks.len());
        for (_, genome) in &subject.networks {
            if genome.is_quantized() {
                bail!("network {genome} is quantized already; its run has scored what it exports");
            }
            let after = genome.in_bits(bits).with_ends(ends);
            shape.check_genome(&after)?;
            all_after.push(after);
        }
        let pairs: Vec<Genome> = subject
            .networks
            .iter()
            .zip(&all_after)
            .flat_map(|((_, before), after)| [before.clone(), after.clone()])
            .collect();
        note_fallback(&shape, &all_after, bits, self.embedding_bits.unwrap_or(bits));
        let scores = self.score(&subject, &pairs)?;
        let mut points = Vec::new();
        for ((id, before), place) in subject.networks.iter().zip((0..).step_by(2)) {
            let changes = scores.iter().map(|task| task.change(&task.networks[place], &task.networks[place + 1]));
            let genome = pairs[place + 1].clone();
            points.push(QuantizedPoint {
                id: *id,
                bytes_before: Cost::of(&shape, before).weight_bytes,
                bytes: Cost::of(&shape, &genome).weight_bytes,
                genome,
                changes: changes.collect(),
            });
        }
        points.sort_by_key(|point| point.bytes_before);
        let mean = scores.iter().map(|task| {
            let of = |side: usize| mean_of(task.networks.iter().skip(side).step_by(2));
            task.change(&of(0), &of(1))
        });
        let front = QuantizedFront {
            parent_quantized: subject.parent.config().quantized,
            model: subject.name,
            format: BlockTypes::of_networks(&shape, &all_after).to_string(),
            points,
            mean: mean.collect(),
        };
        front.write(&out)?;
        write_pictures(&front, &out)?;
        print(&front);
        println!("written: {}", out.display());
        Ok(())
    }

    /// The bits of each layer of one network, by the same search as any other.
    fn mixed(&self) -> anyhow::Result<()> {
        let settings = RunSettings::read(&self.from)?;
        let (model, genome, shape) = match (&settings, &self.pick) {
            (Some(settings), Some(pick)) => {
                let parent = searched(&self.from)?.context("a run has a model")?;
                (settings.model.clone(), picked(&self.from, pick)?, parent.config().shape)
            }
            (Some(_), None) => bail!("say which network of the front gets mixed bits with --pick"),
            (None, Some(_)) => bail!("{} is no run; --pick is for runs", self.from.display()),
            (None, None) => {
                let parent = open_checkpoint(&self.from)?;
                (self.from.display().to_string(), parent.config().genome.clone(), parent.config().shape)
            }
        };
        let Some(budget) = &self.budget else {
            bail!("say how many bytes the network may have with --budget, such as 80M")
        };
        let limit: Constraint = format!("weight_bytes<={budget}").parse().context("--budget")?;
        let Some(out) = &self.out else { bail!("say where the search goes with --out DIR") };
        let objectives = self.searched_for(settings.as_ref())?;
        // As many items as the run's own search had, where its tasks are searched on.
        let of_run = |items: fn(&RunTask) -> usize| {
            let settings = settings.as_ref().filter(|_| self.tasks.is_empty())?;
            settings.tasks.iter().map(items).max()
        };
        let limit_items = self.limit.or(of_run(|task| task.search_items));
        let held_out = self.held_out.or(of_run(|task| task.held_out_items)).unwrap_or(HELD_OUT_ITEMS);
        let ends = self.embedding_bits.map_or(self.choices.clone(), |bits| vec![bits]);
        let space = space_of(&shape, &genome, &self.choices, &ends);
        let smallest = SearchSpace::from_yaml(&space)?.smallest();
        let least = Cost::of(&shape, &smallest).weight_bytes;
        if limit.violation(least as f64) > 0.0 {
            bail!("--budget {budget}: in its fewest bits the network still has {least} bytes ({smallest})");
        }
        for &bits in &self.choices {
            let ends = self.embedding_bits.unwrap_or(bits);
            note_fallback(&shape, &[genome.in_bits(bits).with_ends(ends_in(&shape, ends))], bits, ends);
        }
        std::fs::create_dir_all(out).map_err(criadero::Error::io(out))?;
        let file = out.join("space.yaml");
        criadero::atomic_file::write(&file, space)?;
        let mut arguments: Vec<String> = ["search".into(), file.display().to_string()].into();
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        flag("model", model);
        objectives.into_iter().for_each(|objective| flag("objective", objective));
        flag("objective", "weight_bytes".into());
        flag("constraint", format!("weight_bytes<={budget}"));
        flag("evals", self.evals.to_string());
        flag("population", self.population.to_string());
        flag("seed", self.seed.to_string());
        flag("out", out.display().to_string());
        for (name, value) in [("limit", limit_items), ("held-out", Some(held_out)), ("threads", self.threads)] {
            value.into_iter().for_each(|value| flag(name, value.to_string()));
        }
        arguments.extend(self.data.arguments());
        arguments.extend(self.device.arguments());
        Searching::try_parse_from(arguments)?.search.run()?;
        println!(
            "best within {budget} bytes: criadero export {} --pick 'weight_bytes<={budget}' --format gguf",
            out.display()
        );
        Ok(())
    }

    /// What a search of bits scores networks by: as the run did, or each task by what is smooth for it.
    fn searched_for(&self, settings: Option<&RunSettings>) -> anyhow::Result<Vec<String>> {
        if self.tasks.is_empty() {
            let scores = |text: &&String| Objective::parse(text).is_ok_and(|objective| objective.metric().is_some());
            let own = settings.iter().flat_map(|settings| &settings.objectives);
            let own: Vec<String> = own.filter(scores).cloned().collect();
            if own.is_empty() {
                bail!("say what to search on with --task");
            }
            return Ok(own);
        }
        let mut objectives: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for task in &self.tasks {
            let metric = Metric::smooth(self.data.task(task)?.scoring());
            objectives.entry(Objective::name_of(metric)).or_default().push(task);
        }
        Ok(objectives.into_iter().map(|(name, tasks)| format!("{name}:{}", tasks.join("+"))).collect())
    }

    fn subject(&self) -> anyhow::Result<Subject> {
        let Some(settings) = RunSettings::read(&self.from)? else {
            let parent = open_checkpoint(&self.from)?;
            if self.tasks.is_empty() {
                bail!("{} is no run; say what to score it on with --task", self.from.display());
            }
            let items = self.held_out.unwrap_or(HELD_OUT_ITEMS);
            let task = |name: &String| HeldOutTask { name: name.clone(), items, digest: None };
            let max_length = parent.config().max_position_embeddings.min(MAX_LENGTH);
            return Ok(Subject {
                name: name_of(&self.from),
                networks: vec![(0, parent.config().genome.clone())],
                tasks: self.tasks.iter().map(task).collect(),
                packing: PackingOptions { chunk_tokens: 1024, max_length },
                threads: self.threads.unwrap_or_else(default_threads),
                of_a_run: false,
                parent,
            });
        };
        if !self.tasks.is_empty() {
            bail!("--task is for a model; {} is scored on its own tasks", self.from.display());
        }
        if settings.evaluator != "local" {
            bail!("{} was scored by the {} evaluator, which has no weights", self.from.display(), settings.evaluator);
        }
        let device = self.device.name();
        if settings.device.starts_with("cpu") != (device == "cpu") {
            bail!(
                "{} was scored on {}, --device is {device}: scores before and after must be of one kind",
                self.from.display(),
                settings.device
            );
        }
        let parent = searched(&self.from)?.context("a run has a model")?;
        let front = Front::read_json(&self.from.join("front.json"))?;
        let tasks = settings.tasks.into_iter().map(|task| HeldOutTask {
            items: self.held_out.unwrap_or(task.held_out_items),
            digest: self.held_out.is_none().then_some(task.held_out_digest),
            name: task.name,
        });
        Ok(Subject {
            parent,
            name: front.model,
            networks: front.points.into_iter().map(|point| (point.id, point.genome)).collect(),
            tasks: tasks.collect(),
            packing: settings.frozen.packing,
            // As the run, so that scores before are the run's own to the last bit.
            threads: self.threads.unwrap_or(settings.frozen.threads),
            of_a_run: true,
        })
    }

    /// Contributions of every network's items, task by task.
    fn score(&self, subject: &Subject, networks: &[Genome]) -> anyhow::Result<Vec<TaskScores>> {
        let tokenizer = subject.parent.tokenizer()?;
        let model = load_for(&subject.parent, &self.device, networks)?;
        let workers = Workers { count: 1, threads: subject.threads };
        let mut all = Vec::new();
        for HeldOutTask { name, items: count, digest } in &subject.tasks {
            let task = self.data.task(name)?;
            let items = task.divisible_items()?;
            let chosen: Vec<&Item> = split_items(&items, Split::HeldOut).into_iter().take(*count).collect();
            let packed_name = format!("{name}/held_out");
            let set = EvalSet::pack(&packed_name, task.scoring(), &chosen, &tokenizer, subject.packing)?;
            if digest.as_ref().is_some_and(|digest| *digest != set.digest) {
                bail!("the held-out items of `{name}` are not those that {} was measured on", self.from.display());
            }
            let metric = Metric::headline(set.scoring);
            let bar = Bar::new("scoring", set.chunks.len() * networks.len());
            let mut evaluator =
                LocalEvaluator::start(std::slice::from_ref(&model), vec![set], workers, 0, Arc::default());
            let scored = score(&mut evaluator, networks, &bar)?;
            bar.finish();
            let set = &evaluator.sets()[0];
            let of = |(genome, scores): (&Genome, Scored)| match scores {
                Ok(scores) => Ok(metric.contributions(set, &scores)),
                Err(reason) => bail!("network {genome} cannot be scored: {reason}"),
            };
            let networks = networks.iter().zip(scored).map(of).collect::<anyhow::Result<_>>()?;
            all.push(TaskScores { name: format!("{}:{name}", Objective::name_of(metric)), metric, networks });
        }
        Ok(all)
    }
}

/// `criadero search` with the flags that [`Quantize::mixed`] gives it.
#[derive(Parser)]
struct Searching {
    #[command(flatten)]
    search: Search,
}

/// What every network's items contribute to a task's metric.
struct TaskScores {
    name: String,
    metric: Metric,
    networks: Vec<Vec<Contribution>>,
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

/// The space of one network in which bits are all that differs.
fn space_of(shape: &ModelShape, genome: &Genome, choices: &[Bits], ends: &[Bits]) -> String {
    let mut text = String::from("# One network; its bits are what is searched.\nshape: {");
    text += &shape.fields().map(|(name, value)| format!(" {name}: {value}")).join(",");
    let list = |bits: &[Bits]| bits.iter().map(Bits::to_string).collect::<Vec<_>>().join(", ");
    text += &format!(" }}\nheads: [{}]\nmlp: [{}]\nbits: [{}]\n", shape.heads, shape.mlp, list(choices));
    text += &format!("embedding_bits: [{}]\n", list(ends));
    if !shape.tied {
        text += &format!("head_bits: [{}]\n", list(ends));
    }
    text += "layers:\n";
    for (layer, Gene { heads, mlp, .. }) in genome.genes().iter().enumerate() {
        text += &format!("  {layer}: {{ heads: [{heads}], mlp: [{mlp}] }}\n");
    }
    text
}

fn name_of(model: &Path) -> String {
    model.file_stem().map_or_else(|| model.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn print(front: &QuantizedFront) {
    println!("{:>5}  {:>12}  {:>12}  score before, after, change", "id", "bytes before", "after");
    let line = |changes: &[Change]| {
        let one = |change: &Change| {
            let Change { name, before, after, change, change_stderr, .. } = change;
            format!("{name} {before:.4} {after:.4} {change:+.4} ± {change_stderr:.4}")
        };
        changes.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    for point in &front.points {
        println!("{:>5}  {:>12}  {:>12}  {}", point.id, point.bytes_before, point.bytes, line(&point.changes));
    }
    println!("mean of the front, {:.1} % of the bytes: {}", 100.0 * front.bytes_share(), line(&front.mean));
}
