//! `criadero serve`: the networks of a front behind OpenAI's API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use criadero::cascade::Cascade;
use criadero::checkpoint::{Checkpoint, LlamaConfig};
use criadero::count::{Items, Threads, Tokens, Workers};
use criadero::report::Answering;
use criadero::report::html::page_of_model;
use criadero::run::{Front, cores};
use criadero::serve::{Engine, Limits, Loaded, Menu, Meter, Page, Service, serve};
use criadero::space::Genome;
use criadero::tune::template::Template;

use super::interrupt::stop_on_ctrl_c;
use super::model::{self, DeviceArgs, load_for, tokenizer_of, with_int8};
use super::picked::MovedArgs;
use super::plot::report_of;
use super::router::RouterArgs;

/// Bytes of a request's body at most.
const BODY_BYTES: usize = 4 << 20;
/// How often a stop is looked for.
const MOMENT: Duration = Duration::from_millis(50);

/// Serve a run's networks, or a model, as OpenAI's API does
///
/// `/v1/completions` and `/v1/chat/completions`, streamed or whole; `/v1/models` lists the networks. `model` is `RUN#ID`, `RUN#knee`,
/// `RUN#parent`, or a budget such as `RUN#params<=100M`; or a request says `latency_ms`, `decode_tps`, `weight_bytes` or `params` beside it,
/// as a field or as a header (`x-params: 100M`). All networks are views of one model in memory. A CPU with instructions for bfloat16 writes in
/// that, unless --arithmetic says otherwise. A browser gets a page to choose and to ask with.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero serve results/mine\n  \
                        criadero serve small.gguf --addr 0.0.0.0:8080 --api-key SECRET")]
#[command(mut_arg("arithmetic", with_int8))]
pub struct Serve {
    /// Run directory, or any checkpoint
    #[arg(value_name = "RUN|MODEL")]
    network: String,
    #[command(flatten)]
    moved: MovedArgs,
    /// Networks that answer questions in turn, `RUN#cascade`: a file that `criadero cascade` wrote
    #[arg(long, value_name = "FILE")]
    cascade: Option<PathBuf>,
    #[command(flatten)]
    router: RouterArgs,
    /// Where it listens; another address than loopback lets others in
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// Key that clients must send as `Authorization: Bearer KEY`
    #[arg(long, value_name = "KEY", env = "CRIADERO_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Requests that are written at a time; those of one network share its steps
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = Workers::parse)]
    batch: usize,
    /// Requests that wait; more are refused, to be sent again
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = Items::parse)]
    queue: usize,
    /// Tokens of a prompt and what is written behind it; by default the model's positions, 8192 at most
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::parse)]
    context: Option<usize>,
    /// Memory for keys and values
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    cache: u64,
    /// How long a request may wait and be written
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..1 << 32))]
    timeout: u64,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N", value_parser = Threads::parse)]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Tokens of a text where nothing says how many.
const CONTEXT: usize = 8192;

impl Serve {
    /// Serves until it is stopped.
    ///
    /// # Errors
    /// What cannot be loaded, an address that is not to be had.
    pub fn run(self) -> anyhow::Result<()> {
        let (checkpoint, menu) = self.menu()?;
        let tokenizer = Arc::new(tokenizer_of(&checkpoint)?);
        let routed = self.router.read(&checkpoint, false)?;
        let menu = match &routed {
            Some(routed) => menu.with_router(routed.genome.clone()),
            None => menu,
        };
        let mut genomes: Vec<Genome> = menu.networks().iter().map(|served| served.genome.clone()).collect();
        let menu = match &self.cascade {
            None => menu,
            Some(path) => {
                let cascade = Cascade::read_for(path, &checkpoint)?;
                genomes.extend(cascade.genomes());
                menu.with_cascade(cascade)
            }
        };
        let threads = self.threads.unwrap_or_else(cores);
        detail!("libtorch threads: {threads}");
        let ends = checkpoint.ends(&tokenizer)?;
        let template = checkpoint.chat_template().and_then(|own| Template::new(own.as_ref(), &tokenizer));
        if let Err(error) = &template {
            eprintln!("note: no chats: {error}");
        }
        let limits = Limits { batch: self.batch, queue: self.queue, cache_bytes: self.cache << 20, threads };
        let context = self.context.unwrap_or(CONTEXT).min(checkpoint.config().positions());
        let vocab = checkpoint.config().shape.vocab;
        let key = self.api_key.clone().filter(|key| !key.is_empty());
        let page = self.page(&checkpoint, &menu, key.is_some());
        // A router needs every width, and int8 has those of its networks.
        let device = if routed.is_some() { self.device.fast() } else { self.device.fastest(&checkpoint) };
        let load = move || {
            let model = load_for(&checkpoint, &device, &genomes)?;
            genomes.iter().try_for_each(|genome| model.check(genome))?;
            if model.is_int8() {
                // Matrices in int8 are made once, and not while somebody waits.
                genomes.iter().try_for_each(|genome| model.network(genome).map(drop))?;
            }
            let routed = routed.map(|routed| {
                let mut model = model.share();
                routed.apply(&mut model);
                model.check(&routed.genome).map(|()| model)
            });
            Ok::<_, anyhow::Error>(Loaded { model, routed: routed.transpose()? })
        };
        let menu = Arc::new(menu);
        let meter = Arc::new(Meter::default());
        let service = Arc::new(Service {
            engine: Engine::begin(load, menu.clone(), tokenizer.clone(), ends, limits, meter)?,
            tokenizer,
            template: template.map_err(|error| error.to_string()),
            vocab,
            context,
            timeout: Duration::from_secs(self.timeout),
            key,
            body_bytes: BODY_BYTES,
            page,
        });
        let stop = stop_on_ctrl_c("ending when all that was asked for is written; Ctrl-C again ends at once");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let served = runtime.block_on(self.listen(service.clone(), &menu, stop));
        service.engine.finish();
        served
    }

    /// What a browser gets: the run's report with a box to ask in, or that box alone.
    fn page(&self, checkpoint: &Checkpoint, menu: &Menu, key: bool) -> Page {
        let (name, run) = (menu.name().to_string(), PathBuf::from(&self.network));
        let LlamaConfig { shape, genome, .. } = checkpoint.config().clone();
        let front = menu.front();
        Page::new(move || {
            let answering = Answering { name: &name, key };
            match &front {
                Some(front) => report_of(&run, front, Some(&answering)),
                None => Ok(page_of_model(&shape, &genome, &answering)),
            }
        })
    }

    async fn listen(&self, service: Arc<Service>, menu: &Menu, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let failed = |error| anyhow!("{}: {error}; give another --addr", self.addr);
        let listener = tokio::net::TcpListener::bind(self.addr).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        eprintln!("{} networks of {} at http://{address}/v1; Ctrl-C ends it", menu.networks().len(), menu.name());
        eprintln!("a page for browsers: http://{address}/");
        if !address.ip().is_loopback() && service.key.is_none() {
            eprintln!("note: whoever reaches {address} may use it; --api-key asks for a key");
        }
        let stopped = async move {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(MOMENT).await;
            }
        };
        serve(listener, service, stopped).await.map_err(|error| anyhow!("{address}: {error}"))
    }

    /// The model, and its networks that can be asked for.
    fn menu(&self) -> anyhow::Result<(Checkpoint, Menu)> {
        let path = Path::new(&self.network);
        let name =
            |path: &Path| path.file_name().map_or(self.network.clone(), |name| name.to_string_lossy().into_owned());
        if let Some(parent) = self.moved.parent_of(path)? {
            let front = Front::read_json(&path.join("front.json"))?;
            return Ok((parent, Menu::of_run(&name(path), front)?));
        }
        let checkpoint = model::open(path)?;
        let genome = checkpoint.config().genome.clone();
        Ok((checkpoint, Menu::of_model(&name(path), genome)))
    }
}
