//! Choosing one network of a front: by search scores, so that its held-out scores stay honest.

use std::fmt;
use std::str::FromStr;

use super::front::{Column, Front, FrontPoint};
use crate::error::{Error, Result};
use crate::space::Constraint;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    /// The network with this id.
    Id(usize),
    /// The point where any gain in one objective costs most in another.
    Knee,
    /// The best network, by the first objective that the limit is not about, among those within the limit.
    Within(Constraint),
}

impl FromStr for Pick {
    type Err = Error;

    fn from_str(text: &str) -> Result<Pick> {
        match (text.trim(), text.trim().parse()) {
            ("knee", _) => Ok(Pick::Knee),
            (_, Ok(id)) => Ok(Pick::Id(id)),
            (limit, Err(_)) => limit.parse().map(Pick::Within).map_err(|_| {
                Error::invalid(
                    "pick",
                    format!("`{text}`"),
                    "an id of the front, `knee`, or a limit such as `params<=100M`",
                )
            }),
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pick::Id(id) => write!(f, "{id}"),
            Pick::Knee => f.write_str("knee"),
            Pick::Within(limit) => write!(f, "{limit}"),
        }
    }
}

impl Pick {
    /// The chosen point.
    ///
    /// # Errors
    /// When no point fits; the message lists what there is.
    pub fn choose<'a>(&self, front: &'a Front) -> Result<&'a FrontPoint> {
        let none = |expected: String| Error::invalid("pick", format!("`{self}`"), expected);
        match self {
            Pick::Id(id) => front.points.iter().find(|point| point.id == *id).ok_or_else(|| {
                let ids: Vec<String> = front.points.iter().map(|point| point.id.to_string()).collect();
                none(format!("an id of the front: {}", ids.join(", ")))
            }),
            Pick::Knee => front.knee().map(|place| &front.points[place]).ok_or_else(|| none(without_knee(front))),
            Pick::Within(limit) => Pick::within(front, std::slice::from_ref(limit)),
        }
    }

    /// The best point within all limits, by the first objective that none of them is about.
    ///
    /// # Errors
    /// Limits on what was not measured, and those that no point meets.
    pub fn within<'a>(front: &'a Front, limits: &[Constraint]) -> Result<&'a FrontPoint> {
        let values = limits.iter().map(|limit| values(front, &limit.objective)).collect::<Result<Vec<_>>>()?;
        let meets = |place: &usize| limits.iter().zip(&values).all(|(limit, of)| limit.violation(of[*place]) == 0.0);
        best(front, (0..front.points.len()).filter(meets), limits).ok_or_else(|| {
            let said: Vec<String> = limits.iter().map(Constraint::to_string).collect();
            let runs = |(limit, values): (&Constraint, &Vec<f64>)| {
                let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                format!("{} runs from {least} to {most}", limit.objective)
            };
            let runs: Vec<String> = limits.iter().zip(&values).map(runs).collect();
            let beyond =
                |place: usize| limits.iter().zip(&values).map(|(limit, of)| limit.violation(of[place])).sum::<f64>();
            let mut places: Vec<usize> = (0..front.points.len()).collect();
            places.sort_by(|&a, &b| beyond(a).total_cmp(&beyond(b)));
            let has = |place: usize| {
                let values = limits.iter().zip(&values).map(|(limit, of)| format!("{} {}", limit.objective, of[place]));
                format!("{} with {}", front.points[place].id, values.collect::<Vec<_>>().join(" and "))
            };
            let nearest: Vec<String> = places.into_iter().take(NEAREST).map(has).collect();
            let expected =
                format!("a limit that a point meets; {}; the nearest are {}", runs.join(", "), nearest.join(" and "));
            Error::invalid("pick", format!("`{}`", said.join(" and ")), expected)
        })
    }
}

/// Networks that are named where none fits.
const NEAREST: usize = 2;

/// What to pick instead of a knee that is not there.
fn without_knee(front: &Front) -> String {
    let middle = front.points.get(front.points.len() / 2);
    let middle = middle.map_or(String::new(), |point| {
        let limit = |name: &str| point.value(name).map(|value| format!(" or a limit such as `{name}<={value}`"));
        format!("; pick an id such as {}{}", point.id, limit("params").unwrap_or_default())
    });
    let reason = match front.points.len() {
        ..3 => format!("it has {} points", front.points.len()),
        _ => "no network lies above the line between its smallest and its best one: what is saved is paid for evenly or dearer".to_string(),
    };
    format!("a front with a knee; this one has none: {reason}{middle}")
}

/// The best of some points, by the first objective that is no limit's own.
fn best<'a>(front: &'a Front, places: impl Iterator<Item = usize>, limits: &[Constraint]) -> Option<&'a FrontPoint> {
    let limited = |column: &Column| limits.iter().any(|limit| limit.objective == column.name);
    let column = front.objectives.iter().find(|column| !limited(column)).unwrap_or(&front.objectives[0]);
    let loss = |at: &usize| column.loss(front.points[*at].value(&column.name).unwrap_or(f64::NAN));
    places.min_by(|a, b| loss(a).total_cmp(&loss(b))).map(|at| &front.points[at])
}

/// A column of the front: one value a point.
fn values(front: &Front, name: &str) -> Result<Vec<f64>> {
    let values: Option<Vec<f64>> = front.points.iter().map(|point| point.value(name)).collect();
    values.ok_or_else(|| Error::unknown("column of the front", name, front.columns()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::space::shape::tests::TINY;

    pub(crate) fn front() -> Front {
        let point = |id: usize, nll: f64, params: u64| FrontPoint {
            id,
            genome: "2x8".parse().unwrap(),
            values: [
                ("choice_nll:t", nll),
                ("params", params as f64),
                ("weight_bytes", 2.0 * params as f64),
                ("decode_tps", 1e4 / params as f64),
            ]
            .into_iter()
            .collect(),
            held_out: vec![],
            dominated_on_held_out: false,
        };
        let column = |name: &str| Column { name: name.into(), unit: String::new(), maximize: false };
        Front {
            shape: TINY,
            model: "m".into(),
            objectives: vec![column("choice_nll:t"), column("params")],
            parent: point(9, 1.0, 1000),
            points: vec![point(4, 9.0, 100), point(2, 2.0, 200), point(7, 1.9, 900)],
            chance: vec![0.25],
            hypervolume: 0.0,
            over_budgets: None,
            evaluations: 10,
        }
    }

    fn chosen(text: &str) -> Result<usize> {
        text.parse::<Pick>()?.choose(&front()).map(|point| point.id)
    }

    #[test]
    fn picks_by_id_knee_and_limit() {
        assert_eq!(chosen("7").unwrap(), 7);
        assert_eq!(chosen("knee").unwrap(), 2);
        assert_eq!(chosen("params<=0.5k").unwrap(), 2);
        assert_eq!(chosen("weight_bytes <= 300").unwrap(), 4);
        assert_eq!(chosen("decode_tps>=20").unwrap(), 2, "a column like any other");
        assert_eq!(chosen("choice_nll:t<=5").unwrap(), 2, "the smallest of those good enough");
    }

    #[test]
    fn says_what_there_is_when_nothing_fits() {
        let error = |text: &str| chosen(text).unwrap_err().to_string();
        assert!(error("3").contains("4, 2, 7"), "{}", error("3"));
        assert!(
            error("params<=50")
                .contains("runs from 100 to 900; the nearest are 4 with params 100 and 2 with params 200")
        );
        let expected = "unknown column of the front `speed`; known: choice_nll:t, params, weight_bytes, decode_tps";
        assert_eq!(error("speed<=50"), expected);
        assert!(error("best").contains("`knee`"));
    }
}
