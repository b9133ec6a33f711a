//! The steps of a shrinking: which ones, by which command, and about how long each takes.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::{Value, json};

use super::super::seconds::said;
use super::effort::Terms;
use super::limit::Limit;
use super::machine::Machine;
use super::step::{Product, Step};

/// Fewer steps of training change little: of what 285 steps took off the losses of narrow networks, the first 57 took about two thirds
/// (`results/tune-smollm2`).
const FEWEST_STEPS: usize = 30;
/// Tokens of a step of training.
pub const STEP_TOKENS: usize = 1024;
/// Tokens that a ranking reads.
pub const RANK_TOKENS: f64 = 32_768.0;

/// What work costs in forward passes of the whole model over its tokens; measured on SmolLM2-135M on two cores.
mod passes {
    /// Ranking: the pass itself, what heads and channels make up for each other, and the losses of single layers.
    pub const RANK: f64 = 6.0;
    /// A network of a search: it is narrower, begins as others do, and is raced.
    pub const SEARCHED: f64 = 0.5;
    /// A network of a front.
    pub const MEASURED: f64 = 0.75;
    /// A step of a sandwich: four networks, forward and backward.
    pub const SANDWICH: f64 = 13.0;
    /// A step of recovery: the teacher forward, the network forward and backward.
    pub const DISTILLED: f64 = 6.0;
    /// Calling a throughput table's networks often enough, over its prompt.
    pub const TABLE: f64 = 120.0;
}

/// Networks of a front, as a share of those evaluated.
const FRONT: f64 = 0.4;
/// Tokens of the prompt that throughput is measured on.
pub const PROMPT_TOKENS: usize = 256;
/// Seconds of what takes no time to speak of: starting, reading and writing files, drawing.
const MOMENT: f64 = 5.0;

/// Everything that a plan follows from.
pub struct Job<'a> {
    /// The model, as it was given.
    pub model: String,
    /// Where everything goes.
    pub out: &'a Path,
    /// What the result must keep to; the first one picks it.
    pub limits: &'a [Limit],
    /// What is searched for.
    pub objectives: Vec<String>,
    /// What the result is measured on.
    pub tasks: &'a [String],
    /// How much is taken on.
    pub terms: Terms,
    /// Seconds that were allowed.
    pub seconds: Option<f64>,
    /// The space that is ranked and trained.
    pub widths: String,
    /// The space that is searched.
    pub searched: String,
    /// Whether its networks may be quantized.
    pub quantizes: bool,
    /// Whether throughput can be measured: the model has room for the prompt.
    pub has_throughput: bool,
    /// The supernet that is there already.
    pub supernet: Option<String>,
    /// What is ranked by and trained on.
    pub text: String,
    /// How the network is exported.
    pub format: &'a str,
    /// Seed of every random choice.
    pub seed: u64,
    /// Flags of the device.
    pub device: Vec<String>,
    /// Flags of the tasks' data.
    pub data: Vec<String>,
    /// Flags with which fine-tuning fits the machine, or why there is none.
    pub tune: Result<Vec<String>, String>,
    /// The same of recovery.
    pub recover: Result<Vec<String>, String>,
    /// How fast it is here.
    pub machine: Machine,
    /// Tokens of the searched items, packed.
    pub search_tokens: usize,
    /// Tokens of the held-out items, packed.
    pub held_out_tokens: usize,
}

/// What will be done, in order, and what will not.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Steps that there are not, and why.
    pub left_out: Vec<(&'static str, String)>,
}

/// The words of a command.
fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).to_vec()
}

impl Plan {
    /// About how long all of it takes.
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }

    /// The network that is written.
    pub fn exported(&self) -> Option<&Path> {
        let network = |step: &Step| matches!(step.product, Product::Network(_));
        self.steps.iter().find(|step| network(step)).map(|step| step.product.path())
    }

    /// As `--json` prints it.
    pub fn as_json(&self) -> Value {
        let step = |step: &Step| json!({ "step": step.name, "command": step.line(), "seconds": step.seconds, "done": step.product.is_whole() });
        let left_out = self.left_out.iter().map(|(name, reason)| json!({ "step": name, "reason": reason }));
        json!({ "steps": self.steps.iter().map(step).collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>() })
    }
}

impl Job<'_> {
    /// The steps. Training gets what the others leave of the time: fine-tuning half of it, recovery the rest.
    ///
    /// # Errors
    /// Where a time was given that the steps without training exceed.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let mut left_out = Vec::new();
        let rank = self.rank();
        if rank.is_none() {
            left_out.push(("rank", "--supernet is ranked".to_string()));
        }
        let needed = Plan {
            steps: rank.iter().cloned().chain([self.search(String::new())]).chain(self.behind(false)).collect(),
            left_out: Vec::new(),
        };
        let needed = needed.seconds();
        if let Some(seconds) = self.seconds.filter(|seconds| *seconds < needed) {
            let fewer = "give more --time, or take on less with --quick";
            bail!("--time allows {}; what cannot be left out takes about {}; {fewer}", said(seconds), said(needed));
        }
        let mut left = (self.seconds.unwrap_or(self.terms.seconds) - needed).max(0.0);
        let mut training = |name, most: usize, share: f64, passes: f64, flags: &Result<Vec<String>, String>| {
            let a_step = self.forward(passes * STEP_TOKENS as f64);
            let steps = ((share * left / a_step) as usize).min(most);
            let reason = match flags {
                _ if most == 0 => Some("--quick trains nothing".to_string()),
                Err(reason) => Some(reason.clone()),
                Ok(_) if steps < FEWEST_STEPS => Some(format!(
                    "{FEWEST_STEPS} steps of about {} are the fewest that are worth it, and of the time {} are left for them",
                    said(a_step),
                    said(share * left)
                )),
                Ok(_) => None,
            };
            if let Some(reason) = reason {
                left_out.push((name, reason));
                return None;
            }
            left -= steps as f64 * a_step;
            Some((steps, steps as f64 * a_step, format!("{steps} steps of {STEP_TOKENS} tokens, {passes} passes each")))
        };
        let terms = &self.terms;
        let tune = training("tune", terms.tune_steps, 0.5, passes::SANDWICH, &self.tune);
        let recover = training("recover", terms.recover_steps, 1.0, passes::DISTILLED, &self.recover);
        let mut steps: Vec<Step> = rank.into_iter().collect();
        let supernet = tune.map_or_else(
            || self.supernet(),
            |(count, seconds, reckoned)| {
                let out = self.at("tuned");
                let mut arguments = words(["tune", &self.supernet(), "--space", &self.widths]);
                arguments.extend(self.trained(count, &out, &self.tune));
                let product = Product::Trained(PathBuf::from(&out));
                steps.push(Step { name: "tune", arguments, product, seconds, reckoned });
                out
            },
        );
        steps.push(self.search(supernet));
        let is_recovered = recover.is_some();
        if let Some((count, seconds, reckoned)) = recover {
            let out = self.at("recovered");
            let mut arguments = words(["distill", &self.at("run"), "--pick", &self.pick()]);
            arguments.extend(self.trained(count, &out, &self.recover));
            let product = Product::Trained(out.into());
            steps.push(Step { name: "recover", arguments, product, seconds, reckoned });
        }
        steps.extend(self.behind(is_recovered));
        Ok(Plan { steps, left_out })
    }

    /// A place in the directory.
    fn at(&self, name: &str) -> String {
        self.out.join(name).display().to_string()
    }

    fn supernet(&self) -> String {
        self.supernet.clone().unwrap_or_else(|| self.at("supernet"))
    }

    /// All limits are constraints of the search, so that whatever is within one of them is within all.
    fn pick(&self) -> String {
        self.limits[0].to_string()
    }

    /// Seconds of so many tokens in a forward pass of the whole model.
    fn forward(&self, tokens: f64) -> f64 {
        tokens / self.machine.tokens_per_second
    }

    fn rank(&self) -> Option<Step> {
        if self.supernet.is_some() {
            return None;
        }
        let out = self.supernet();
        let mut arguments = words(["rank", &self.model, "--space", &self.widths, "--text", &self.text, "--out", &out]);
        arguments.extend(self.device.clone());
        Some(Step {
            name: "rank",
            arguments,
            product: Product::Supernet(out.into()),
            seconds: passes::RANK * RANK_TOKENS / self.machine.search_tokens_per_second + MOMENT,
            reckoned: format!("{RANK_TOKENS} tokens, {} passes", passes::RANK),
        })
    }

    /// What fine-tuning and recovery are told alike.
    fn trained(&self, steps: usize, out: &str, flags: &Result<Vec<String>, String>) -> Vec<String> {
        let [steps, seed] = [steps.to_string(), self.seed.to_string()];
        let mut arguments = words(["--data", &self.text, "--steps", &steps, "--seed", &seed, "--out", out]);
        arguments.extend(flags.iter().flatten().cloned());
        arguments.extend(self.device.clone());
        arguments
    }

    fn search(&self, supernet: String) -> Step {
        let Terms { evals, population, limit, held_out, .. } = self.terms;
        let out = self.at("run");
        let mut arguments = words(["search", &self.searched, "--model", &supernet]);
        arguments.extend(self.objectives.iter().flat_map(|objective| words(["--objective", objective])));
        arguments.extend(self.limits.iter().flat_map(|limit| words(["--constraint", &limit.to_string()])));
        if self.has_throughput {
            arguments.push("--throughput".to_string());
        }
        let numbers = [("--evals", evals), ("--population", population), ("--limit", limit), ("--held-out", held_out)];
        arguments.extend(numbers.iter().flat_map(|(flag, number)| words([flag, &number.to_string()])));
        arguments.extend(words(["--seed", &self.seed.to_string(), "--out", &out]));
        arguments.extend(self.data.iter().chain(&self.device).cloned());
        let front = FRONT * evals as f64;
        let searched = passes::SEARCHED * (evals * self.search_tokens) as f64;
        let measured = passes::MEASURED * front * self.held_out_tokens as f64;
        let table = if self.has_throughput { passes::TABLE * PROMPT_TOKENS as f64 } else { 0.0 };
        Step {
            name: "search",
            arguments,
            product: Product::Run(out.into()),
            seconds: searched / self.machine.search_tokens_per_second + self.forward(measured + table) + MOMENT,
            reckoned: format!(
                "{evals} networks on {} tokens, the best {front:.0} on {} more",
                self.search_tokens, self.held_out_tokens
            ),
        }
    }

    /// What is done with the network that was found.
    fn behind(&self, is_recovered: bool) -> Vec<Step> {
        let exported = self.at("export");
        let network = if self.format == "gguf" { format!("{exported}/model.gguf") } else { exported.clone() };
        let picked = self.pick();
        let mut arguments = words(["export"]);
        if is_recovered {
            arguments.push(self.at("recovered"));
            if self.quantizes {
                arguments.extend(words(["--bits-of", &format!("{}#{picked}", self.at("run"))]));
            }
        } else {
            arguments.extend(words([&self.at("run"), "--pick", &picked]));
        }
        arguments.extend(words(["--format", self.format, "--out", &exported]));
        let moment = |name, arguments, product| Step {
            name,
            arguments,
            product,
            seconds: MOMENT,
            reckoned: "reading and writing".to_string(),
        };
        // The export's model card shows the picture.
        let mut steps = vec![
            moment("plot", words(["plot", &self.at("run")]), Product::File(self.out.join("run/report.html"))),
            moment("export", arguments, Product::Network(network.clone().into())),
        ];
        let each = self.held_out_tokens as f64 / self.tasks.len() as f64;
        for (place, task) in self.tasks.iter().enumerate() {
            for (name, model, share) in [("parent", &self.model, 1.0), ("exported", &network, passes::MEASURED)] {
                let [file, items] = [Eval::json(self.out, name, place), Eval::items(self.out, name, place)];
                let held_out = self.terms.held_out.to_string();
                let mut arguments = words(["eval", model, "--task", task, "--split", "held-out", "--limit", &held_out]);
                arguments.extend(words(["--per-item", &items.display().to_string(), "--json"]));
                arguments.extend(self.data.iter().chain(&self.device).cloned());
                steps.push(Step {
                    name: if name == "parent" { "measure the parent" } else { "measure what was exported" },
                    arguments,
                    product: Product::Json(file),
                    seconds: self.forward(share * each) + MOMENT,
                    reckoned: format!("{each:.0} tokens of {task}"),
                });
            }
        }
        steps
    }
}

/// The files of a measurement.
pub struct Eval;

impl Eval {
    /// What `eval --json` prints of one model on the task at this place.
    pub fn json(out: &Path, model: &str, place: usize) -> PathBuf {
        out.join(format!("{model}-{}.json", place + 1))
    }

    /// Its scores, item by item.
    pub fn items(out: &Path, model: &str, place: usize) -> PathBuf {
        out.join(format!("{model}-{}.jsonl", place + 1))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::super::Cli;
    use super::super::effort::Effort;
    use super::*;

    /// A model that reads 1,000 tokens a second: ranking takes 202 s, a step of fine-tuning 13.3 s, one of recovery 6.1 s.
    fn job<'a>(limits: &'a [Limit], tasks: &'a [String], effort: Effort) -> Job<'a> {
        Job {
            model: "some/model".into(),
            out: Path::new("out"),
            limits,
            objectives: words(["choice_nll:t", "params"]),
            tasks,
            terms: effort.terms(),
            seconds: None,
            widths: "widths".into(),
            searched: "searched".into(),
            quantizes: false,
            has_throughput: true,
            supernet: None,
            text: "text".into(),
            format: "gguf",
            seed: 7,
            device: vec![],
            data: vec![],
            tune: Ok(words(["--batch", "2"])),
            recover: Ok(words(["--batch", "1"])),
            machine: Machine { tokens_per_second: 1000.0, search_tokens_per_second: 1000.0, memory: None },
            search_tokens: 1000,
            held_out_tokens: 2000,
        }
    }

    fn limits() -> Vec<Limit> {
        ["params<=100M", "latency_ms<=3"].map(|text| text.parse().unwrap()).to_vec()
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn a_quick_one_trains_nothing_and_says_so() {
        let (limits, tasks) = (limits(), words(["t"]));
        let plan = job(&limits, &tasks, Effort::Quick).plan().unwrap();
        let measured = ["measure the parent", "measure what was exported"];
        assert_eq!(names(&plan), [&["rank", "search", "plot", "export"][..], &measured].concat());
        assert_eq!(plan.left_out.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["tune", "recover"]);
        assert_eq!(
            plan.steps[1].line(),
            "criadero search searched --model out/supernet --objective choice_nll:t --objective params --constraint \
             'params<=100M' --constraint 'latency_ms<=3' --throughput --evals 56 --population 16 --limit 64 --held-out 200 \
             --seed 7 --out out/run"
        );
        assert_eq!(
            plan.steps[3].line(),
            "criadero export out/run --pick 'params<=100M' --format gguf --out out/export"
        );
        assert!(plan.steps[5].line().ends_with("--json > out/exported-1.json"), "{}", plan.steps[5].line());
    }

    #[test]
    fn training_gets_what_the_other_steps_leave() {
        let (limits, tasks) = (limits(), words(["t"]));
        let of = |seconds| Job { seconds, ..job(&limits, &tasks, Effort::Moderate) }.plan().unwrap();
        let steps = |plan: &Plan, name| {
            let step = plan.steps.iter().find(|step| step.name == name)?;
            let at = step.arguments.iter().position(|word| word == "--steps").unwrap();
            Some(step.arguments[at + 1].parse::<usize>().unwrap())
        };
        let whole = of(None);
        assert_eq!((steps(&whole, "tune"), steps(&whole, "recover")), (Some(140), Some(200)), "the most there are");
        assert!(whole.left_out.is_empty());
        let (tune, search) = (&whole.steps[1], &whole.steps[2]);
        assert!(tune.line().starts_with("criadero tune out/supernet --space widths --data text"), "{}", tune.line());
        assert!(search.line().contains("--model out/tuned"), "{}", search.line());
        let export = whole.steps.iter().find(|step| step.name == "export").unwrap();
        assert_eq!(export.line(), "criadero export out/recovered --format gguf --out out/export");

        let bare = Job { seconds: None, ..job(&limits, &tasks, Effort::Quick) };
        let needed = Job { terms: Terms { tune_steps: 0, recover_steps: 0, ..Effort::Moderate.terms() }, ..bare };
        let needed = needed.plan().unwrap().seconds();
        for (minutes, expected) in [(3.0, (None, None)), (4.0, (None, Some(39))), (20.0, (Some(45), Some(97)))] {
            let plan = of(Some(needed + 60.0 * minutes));
            assert_eq!((steps(&plan, "tune"), steps(&plan, "recover")), expected, "{minutes}");
            assert!(plan.seconds() <= needed + 60.0 * minutes);
            assert_eq!(
                plan.left_out.len(),
                2 - plan.steps.iter().filter(|s| ["tune", "recover"].contains(&s.name)).count()
            );
        }
        let error = Job { seconds: Some(needed - 1.0), ..job(&limits, &tasks, Effort::Moderate) }.plan().unwrap_err();
        assert!(error.to_string().contains("what cannot be left out takes about"), "{error}");
    }

    #[test]
    fn every_line_is_one_that_the_program_understands() {
        let (limits, tasks) = (limits(), words(["t", "my own.jsonl"]));
        for (effort, quantizes) in [(Effort::Quick, false), (Effort::Moderate, true), (Effort::Thorough, false)] {
            let (device, data) =
                (words(["--device", "cuda:1", "--arithmetic", "bf16"]), words(["--data", "some where"]));
            let plan = Job { quantizes, device, data, ..job(&limits, &tasks, effort) }.plan().unwrap();
            for step in plan.steps {
                let parsed = Cli::try_parse_from(std::iter::once("criadero".to_string()).chain(step.arguments.clone()));
                assert!(parsed.is_ok(), "{}: {}", step.line(), parsed.err().unwrap());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_bits_are_those_that_were_searched() {
        let (limits, tasks) = (limits(), words(["t", "u"]));
        let supernet = Some("ranked".to_string());
        let tune = Err("no memory".to_string());
        let plan = Job { tune, supernet, quantizes: true, ..job(&limits, &tasks, Effort::Thorough) }.plan().unwrap();
        assert_eq!(plan.left_out[1], ("tune", "no memory".to_string()));
        assert_eq!(names(&plan)[..4], ["search", "recover", "plot", "export"]);
        assert!(plan.steps[0].line().contains("--model ranked "), "{}", plan.steps[0].line());
        let export = "criadero export out/recovered --bits-of 'out/run#params<=100M' --format gguf --out out/export";
        assert_eq!(plan.steps[3].line(), export);
        assert_eq!(
            plan.steps.iter().filter(|step| step.name.starts_with("measure")).count(),
            4,
            "two tasks, two models"
        );
    }
}
