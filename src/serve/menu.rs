//! The networks that can be asked for, and how they are called.

use std::sync::{PoisonError, RwLock};

use crate::cascade::Cascade;
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::run::{Front, FrontPoint, Pick};
use crate::space::{Constraint, Genome};
use crate::throughput::{Phase, time_networks};

/// Tokens of a prompt, and written behind it, that the speeds of [`Menu::measure`] are of, as those of a run's table.
const PROMPT: usize = 256;
const WRITTEN: f64 = 128.0;
/// Timings of each network.
const ROUNDS: usize = 3;
/// What a cascade is called behind the name of the whole.
const CASCADE: &str = "cascade";
/// What a network whose tokens are routed is called there.
const ROUTER: &str = "router";
/// Names of speeds.
const SPEEDS: [&str; 3] = ["prefill_tps", "decode_tps", "latency_ms"];
/// What a budget may be about, each with the sign of its limit.
pub(super) const BUDGETS: [(&str, &str); 4] =
    [("latency_ms", "<="), ("decode_tps", ">="), ("weight_bytes", "<="), ("params", "<=")];

/// A network that can be asked for.
#[derive(Clone, Debug)]
pub struct Served {
    /// What it is called.
    pub id: String,
    /// The network.
    pub genome: Genome,
}

/// The networks of a run's front behind the whole model, or a model alone.
pub struct Menu {
    name: String,
    networks: Vec<Served>,
    /// The front, whose points are the networks from the second on.
    front: Option<RwLock<Front>>,
    /// Networks that answer questions in turn, and their place among the names.
    cascade: Option<(usize, Cascade)>,
    /// The place of the network whose tokens are routed.
    router: Option<usize>,
}

impl Menu {
    /// A model alone, under its name.
    pub fn of_model(name: &str, genome: Genome) -> Menu {
        Menu {
            name: name.to_string(),
            networks: vec![Served { id: name.to_string(), genome }],
            front: None,
            cascade: None,
            router: None,
        }
    }

    /// The networks of a run's front, `NAME#ID` each, and the model that they are cut from, `NAME#parent`.
    ///
    /// # Errors
    /// `Invalid` for a front without networks.
    pub fn of_run(name: &str, front: Front) -> Result<Menu> {
        if front.points.is_empty() {
            return Err(Error::invalid(format!("front of {name}"), "no networks", "one at least"));
        }
        let served =
            |id: String, point: &FrontPoint| Served { id: format!("{name}#{id}"), genome: point.genome.clone() };
        let parent = served("parent".to_string(), &front.parent);
        let points = front.points.iter().map(|point| served(point.id.to_string(), point));
        let networks = [parent].into_iter().chain(points).collect();
        Ok(Menu { name: name.to_string(), networks, front: Some(RwLock::new(front)), cascade: None, router: None })
    }

    /// The same with a cascade of these networks, `NAME#cascade`.
    pub fn with_cascade(mut self, cascade: Cascade) -> Menu {
        let genome =
            cascade.stages.last().map_or_else(|| self.networks[0].genome.clone(), |stage| stage.genome.clone());
        let place = self.add(CASCADE, genome);
        Menu { cascade: Some((place, cascade)), ..self }
    }

    /// The same with a network whose tokens a router gives their widths, `NAME#router`.
    pub fn with_router(mut self, genome: Genome) -> Menu {
        let place = self.add(ROUTER, genome);
        Menu { router: Some(place), ..self }
    }

    /// Adds a network; gives its place.
    fn add(&mut self, id: &str, genome: Genome) -> usize {
        self.networks.push(Served { id: format!("{}#{id}", self.name), genome });
        self.networks.len() - 1
    }

    /// Whether a router gives the tokens of the network in this place their widths.
    pub fn is_routed(&self, place: usize) -> bool {
        self.router == Some(place)
    }

    /// What a network is called here; `otherwise` where it has no name of its own.
    pub(super) fn id_of(&self, genome: &Genome, otherwise: &str) -> String {
        let special = [self.router, self.cascade.as_ref().map(|(place, _)| *place)];
        let mut own = self.networks.iter().enumerate().rev().filter(|(place, _)| !special.contains(&Some(*place)));
        // The parent may be on the front, too.
        own.find(|(_, served)| served.genome == *genome).map_or(otherwise.to_string(), |(_, served)| served.id.clone())
    }

    /// The cascade, where it is what stands in this place.
    pub fn cascade(&self, place: usize) -> Option<&Cascade> {
        self.cascade.as_ref().filter(|(own, _)| *own == place).map(|(_, cascade)| cascade)
    }

    /// What the whole is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of them.
    pub fn networks(&self) -> &[Served] {
        &self.networks
    }

    /// The front, as it is known by now.
    pub fn front(&self) -> Option<Front> {
        self.front.as_ref().map(|front| front.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The place of the network that a request means by a name, an empty one included, and a budget. The name alone is the best network
    /// within the budget, or without one the knee, or, where the front has none, the best by its first objective.
    ///
    /// # Errors
    /// `Invalid` for names that there are not, budgets that no network meets, and a budget beside a network's own name.
    pub fn find(&self, name: &str, budget: &[Constraint]) -> Result<usize> {
        let pick = self.pick_of(name);
        let special = match pick {
            CASCADE => self.cascade.as_ref().map(|(place, _)| *place),
            ROUTER => self.router,
            _ => None,
        };
        if let (Some(place), []) = (special, budget) {
            return Ok(place);
        }
        let Some(front) = &self.front else {
            return match (pick.is_empty(), budget.first()) {
                (true, None) => Ok(0),
                (true, Some(limit)) => Err(Error::invalid("budget", limit, "none: a model alone is served, not a run")),
                (false, _) => Err(self.unknown(name)),
            };
        };
        let front = front.read().unwrap_or_else(PoisonError::into_inner);
        let of_point = |point: &FrontPoint| {
            let place = front.points.iter().position(|other| other.id == point.id).expect("it is the front's");
            Ok(place + 1)
        };
        match (pick, budget) {
            ("", []) => match front.knee() {
                Some(knee) => Ok(knee + 1),
                None => of_point(Pick::within(&front, &[])?),
            },
            ("", budget) => of_point(Pick::within(&front, budget)?),
            (_, [limit, ..]) => {
                let expected = format!("`{}` alone beside a budget, which chooses the network", self.name);
                Err(Error::invalid("model", format!("`{name}` with {limit}"), expected))
            }
            ("parent", []) => Ok(0),
            (pick, []) => of_point(pick.parse::<Pick>().map_err(|_| self.unknown(name))?.choose(&front)?),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let ids: Vec<String> = self.networks.iter().map(|served| format!("`{}`", served.id)).collect();
        let more = if self.front.is_some() {
            format!(", `{0}`, `{0}#knee`, `{0}#params<=100M`", self.name)
        } else {
            String::new()
        };
        Error::invalid("model", format!("`{name}`"), format!("{}{more}", ids.join(", ")))
    }

    /// What a name says behind that of the whole; what is not ours is left as it is.
    fn pick_of<'a>(&self, name: &'a str) -> &'a str {
        match name.strip_prefix(self.name.as_str()) {
            Some("") => "",
            Some(rest) => rest.strip_prefix('#').unwrap_or(name),
            None => name.strip_prefix('#').unwrap_or(name),
        }
    }

    /// Whether a name and a budget ask for speeds that are not known.
    pub fn lacks(&self, name: &str, budget: &[Constraint]) -> bool {
        let is_speed = |limit: &&Constraint| SPEEDS.contains(&limit.objective.as_str());
        let own = match self.pick_of(name).parse() {
            Ok(Pick::Within(limit)) => Some(limit),
            _ => None,
        };
        self.front.as_ref().is_some_and(|front| {
            let front = front.read().unwrap_or_else(PoisonError::into_inner);
            let known = |name: &str| front.points.iter().all(|point| point.value(name).is_some());
            budget.iter().chain(&own).filter(is_speed).any(|limit| !known(&limit.objective))
        })
    }

    /// Times all networks here: of a prompt of 256 tokens, and of tokens behind as many, or of half of the model's positions.
    ///
    /// # Errors
    /// What libtorch fails with.
    pub fn measure(&self, model: &Llama) -> Result<()> {
        let Some(front) = &self.front else { return Ok(()) };
        let points = front.read().unwrap_or_else(PoisonError::into_inner).points.len();
        let genomes: Vec<Genome> = self.networks[1..=points].iter().map(|served| served.genome.clone()).collect();
        let tokens = PROMPT.min(model.config().positions() / 2);
        let time = |phase| time_networks(model, &genomes, phase, ROUNDS, &mut || ());
        let prompts = time(Phase::Prefill { tokens })?;
        let steps = time(Phase::Decode { context: tokens, sequences: 1 })?;
        let mut front = front.write().unwrap_or_else(PoisonError::into_inner);
        for ((point, prompt), step) in front.points.iter_mut().zip(prompts).zip(steps) {
            let speeds = [1e3 * tokens as f64 / prompt, 1e3 / step, prompt + WRITTEN * step];
            for (name, speed) in SPEEDS.iter().zip(speeds) {
                if point.value(name).is_none() {
                    point.values.set(name, speed);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::front_of_tests as front;

    fn menu() -> Menu {
        Menu::of_run("mine", front()).unwrap()
    }

    fn id(menu: &Menu, name: &str, budget: &[&str]) -> Result<String> {
        let budget: Vec<Constraint> = budget.iter().map(|limit| limit.parse().unwrap()).collect();
        menu.find(name, &budget).map(|place| menu.networks()[place].id.clone())
    }

    #[test]
    fn networks_are_called_by_id_pick_and_budget() {
        let menu = menu();
        for (name, budget, expected) in [
            ("mine#7", vec![], "mine#7"),
            ("#7", vec![], "mine#7"),
            ("7", vec![], "mine#7"),
            ("mine", vec![], "mine#2"),
            ("", vec![], "mine#2"),
            ("mine#knee", vec![], "mine#2"),
            ("mine#parent", vec![], "mine#parent"),
            ("mine#params<=100", vec![], "mine#4"),
            ("mine", vec!["params<=900"], "mine#7"),
            ("mine", vec!["params<=900", "decode_tps>=20"], "mine#2"),
            ("", vec!["weight_bytes<=300"], "mine#4"),
        ] {
            assert_eq!(id(&menu, name, &budget).unwrap(), expected, "{name} {budget:?}");
        }
    }

    #[test]
    fn what_there_is_not_is_said_with_what_there_is() {
        let error = |name: &str, budget: &[&str]| id(&menu(), name, budget).unwrap_err().to_string();
        assert!(
            error("gpt-4", &[]).contains("`mine#4`, `mine#2`, `mine#7`, `mine`, `mine#knee`"),
            "{}",
            error("gpt-4", &[])
        );
        assert!(error("mine7", &[]).contains("`mine#7`"), "no part of a name is left away");
        assert!(error("mine#3", &[]).contains("an id of the front"), "{}", error("mine#3", &[]));
        assert!(error("mine", &["params<=50"]).contains("runs from 100 to 900"));
        assert!(error("mine#7", &["params<=100"]).contains("`mine` alone beside a budget"));
        let alone = Menu::of_model("tiny", "4x128*4".parse().unwrap());
        assert_eq!((alone.find("tiny", &[]).unwrap(), alone.find("", &[]).unwrap()), (0, 0));
        assert!(alone.find("tiny#1", &[]).is_err());
        assert!(alone.find("tiny", &["params<=1".parse().unwrap()]).unwrap_err().to_string().contains("not a run"));
    }

    #[test]
    fn speeds_that_nobody_measured_are_lacking() {
        let limit = |text: &str| vec![text.parse::<Constraint>().unwrap()];
        assert!(menu().lacks("", &limit("latency_ms<=3")) && !menu().lacks("", &limit("decode_tps>=3")));
        assert!(!menu().lacks("mine", &limit("params<=3")));
        assert!(menu().lacks("mine#latency_ms<=3", &[]) && !menu().lacks("mine#7", &[]));
    }
}
