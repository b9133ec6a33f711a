//! The part of a page that answers: a front to choose from, what a network keeps of each layer, and, before a server, a box in which two
//! networks write behind the same words.

use serde_json::{Map, Value, json};

use super::front::Against;
use crate::run::{Front, FrontPoint, HeldOut, command_line, placeless};
use crate::space::{Cost, Gene, Genome, ModelShape};

/// The look of it.
pub(super) const STYLE: &str = include_str!("explore/explore.css");
/// What it does.
const SCRIPT: &str = include_str!("explore/explore.js");

/// A server that writes with the networks that a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'a> {
    /// What all its networks' names begin with.
    pub name: &'a str,
    /// Whether it wants a key.
    pub key: bool,
}

/// What sizes and speeds are called on an axis, with a unit.
const AXES: [(&str, &str, &str); 7] = [
    ("params", "parameters", ""),
    ("weight_bytes", "weights", "B"),
    ("macs", "multiplications a token", ""),
    ("kv_bytes", "keys and values a token", "B"),
    ("prefill_tps", "prompt tokens a second", ""),
    ("decode_tps", "tokens a second", ""),
    ("latency_ms", "a request", "ms"),
];

/// The section of a front.
pub(super) fn of_front(front: &Front, run: &str, answering: Option<&Answering>) -> String {
    let knee = front.knee().map(|place| front.points[place].id);
    let network = |point: &FrontPoint, id: Option<usize>| {
        let mut fields = of_network(&front.shape, &point.genome);
        let values = point.values.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
        let score =
            |score: &HeldOut| (score.name.clone(), json!([score.value, score.stderr, score.delta, score.delta_stderr]));
        fields.insert("values".into(), Value::Object(values));
        fields.insert("scores".into(), Value::Object(point.held_out.iter().map(score).collect()));
        fields.insert("dominated".into(), (id.is_some() && point.dominated_on_held_out).into());
        fields.insert("knee".into(), (id.is_some() && id == knee).into());
        fields.insert("id".into(), id.into());
        if let Some(Answering { name, .. }) = answering {
            let own = id.map_or("parent".to_string(), |id| id.to_string());
            fields.insert("model".into(), format!("{name}#{own}").into());
        }
        Value::Object(fields)
    };
    let known = front.columns();
    let mut sizes: Vec<&str> = AXES.into_iter().map(|(name, ..)| name).filter(|name| known.contains(name)).collect();
    // That of the pictures first.
    let first = if Against::size(front) == Against::Bytes { "weight_bytes" } else { "params" };
    sizes.sort_by_key(|name| *name != first);
    let scores = front.parent.held_out.iter().map(|score| {
        json!({ "name": score.name, "label": format!("{} (held-out)", placeless(&score.name)), "score": true, "unit": "" })
    });
    let data = json!({
        "run": command_line(&[run.to_string()]),
        "heads": front.shape.heads,
        "mlp": front.shape.mlp,
        "sizes": sizes.into_iter().map(axis).collect::<Vec<Value>>(),
        "scores": scores.collect::<Vec<Value>>(),
        "parent": network(&front.parent, None),
        "points": front.points.iter().map(|point| network(point, Some(point.id))).collect::<Vec<Value>>(),
        "served": answering.is_some(),
        "key": answering.is_some_and(|answering| answering.key),
    });
    section(&data)
}

/// The section of a model alone, before a server.
pub(super) fn of_model(shape: &ModelShape, genome: &Genome, answering: &Answering) -> String {
    let cost = Cost::of(shape, genome);
    let mut fields = of_network(shape, genome);
    fields.insert("values".into(), json!({ "params": cost.params, "weight_bytes": cost.weight_bytes }));
    fields.insert("scores".into(), json!({}));
    fields.insert("model".into(), answering.name.into());
    let data = json!({
        "run": null,
        "heads": shape.heads,
        "mlp": shape.mlp,
        "sizes": Value::from_iter(["params", "weight_bytes"].map(axis)),
        "scores": [],
        "parent": fields,
        "points": [],
        "served": true,
        "key": answering.key,
    });
    section(&data)
}

fn axis(name: &str) -> Value {
    let known = AXES.into_iter().find(|(known, ..)| *known == name);
    let (_, label, unit) = known.unwrap_or((name, name, ""));
    json!({ "name": name, "label": label, "unit": unit })
}

/// The genome, and of each layer the share of heads and of channels that it keeps.
fn of_network(shape: &ModelShape, genome: &Genome) -> Map<String, Value> {
    let share = |width: u32, whole: usize| f64::from(width) / whole.max(1) as f64;
    let layer = |gene: &Gene| json!([share(gene.heads, shape.heads), share(gene.mlp, shape.mlp)]);
    let layers = genome.genes().iter().map(layer).collect();
    Map::from_iter([("genome".to_string(), genome.to_string().into()), ("layers".to_string(), Value::Array(layers))])
}

/// Data and script. No text in the data ends the element that it stands in.
fn section(data: &Value) -> String {
    let data = data.to_string().replace('<', "\\u003c");
    format!(
        "<section id=\"explore\" class=\"explore\"></section>\n<script type=\"application/json\" id=\"front-data\">{data}</script>\n\
         <script type=\"module\">\n{SCRIPT}</script>\n"
    )
}
