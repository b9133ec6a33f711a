//! Search spaces as people write them: YAML, checked field by field, each complaint with its line and column.

use std::fmt;
use std::str::FromStr;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::place::{At, Place};
use super::search_space::{DropRule, EndChoices, LayerChoices, Places, last_first};
use super::{Bits, Constraint, Extras, ModelShape, SearchSpace, choices};
use crate::error::{Error, Result};

impl SearchSpace {
    /// Reads and checks the YAML of a space.
    ///
    /// `depth` may be left out (all layers), and so may `bits`, `embedding_bits` and `head_bits` (16), `drop` (`ranking`), `layers` and `constraints`.
    ///
    /// # Errors
    /// [`Error::Space`] with the first thing that is wrong, its field, line and column.
    pub fn from_yaml(text: &str) -> Result<SearchSpace> {
        // An error says its place and reason; a picture of the text around it would say them twice.
        let options = serde_saphyr::options! { with_snippet: false };
        let raw: RawSpace = serde_saphyr::from_str_with_options(text, options).map_err(not_yaml)?;
        raw.checked()
    }
}

/// Numbers are read as text, so that a complaint about one can name its field.
type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    shape: Spanned<RawShape>,
    depth: Option<Spanned<List>>,
    heads: Spanned<List>,
    mlp: Spanned<List>,
    bits: Option<Spanned<List>>,
    embedding_bits: Option<Spanned<OneOrMore>>,
    head_bits: Option<Spanned<OneOrMore>>,
    layers: Option<Entries<RawLayer>>,
    drop: Option<Text>,
    constraints: Option<Entries<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShape {
    layers: Text,
    hidden: Text,
    heads: Text,
    kv_heads: Text,
    head_dim: Text,
    mlp: Text,
    vocab: Text,
    tied: Option<Spanned<bool>>,
    extras: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLayer {
    heads: Option<Spanned<List>>,
    mlp: Option<Spanned<List>>,
    bits: Option<Spanned<List>>,
}

impl RawSpace {
    fn checked(self) -> Result<SearchSpace> {
        let (shape, mut places) = self.shape.value.checked(Place::of(&self.shape.referenced))?;
        places.depth = self.depth.as_ref().map_or(places.depth, |depth| Place::of(&depth.referenced));
        let depths = match self.depth {
            Some(list) => choices::depths(&shape, "depth", numbers("depth", list)?)?,
            None => vec![shape.layers],
        };
        places.bits = self.bits.as_ref().map_or(places.bits, |bits| Place::of(&bits.referenced));
        let place =
            |bits: &Option<Spanned<OneOrMore>>| bits.as_ref().map_or(places.bits, |bits| Place::of(&bits.referenced));
        (places.embedding_bits, places.head_bits) = (place(&self.embedding_bits), place(&self.head_bits));
        let bits = match self.bits {
            Some(list) => choices::bits("bits", list_of("bits", list, bits_at)?)?,
            None => vec![Bits::F16],
        };
        let everywhere = LayerChoices {
            heads: choices::heads(&shape, "heads", numbers("heads", self.heads)?)?,
            mlp: choices::mlp(&shape, "mlp", numbers("mlp", self.mlp)?)?,
            bits,
        };
        let mut layers = vec![everywhere; shape.layers];
        override_layers(&shape, &mut layers, self.layers.map_or_else(Vec::new, |entries| entries.0))?;
        let constraints = self.constraints.map_or_else(Vec::new, |entries| entries.0);
        let ends = EndChoices {
            embedding: end_bits("embedding_bits", self.embedding_bits)?,
            head: end_bits("head_bits", self.head_bits)?,
        };
        let space = SearchSpace {
            shape,
            depths,
            drop: self.drop.map_or(Ok(DropRule::default()), drop_rule)?,
            drop_order: last_first(&shape),
            layers,
            ends,
            constraints: constraints.into_iter().map(constraint).collect::<Result<_>>()?,
            places,
        };
        space.never_empty()?.in_blocks()
    }
}

impl RawShape {
    fn checked(self, here: Place) -> Result<(ModelShape, Places)> {
        let RawShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied, extras } = self;
        let size = |name: &str, text: &Text| number::<usize>(&format!("shape.{name}"), text).map(|size| size.value);
        let shape = ModelShape {
            layers: size("layers", &layers)?,
            hidden: size("hidden", &hidden)?,
            heads: size("heads", &heads)?,
            kv_heads: size("kv_heads", &kv_heads)?,
            head_dim: size("head_dim", &head_dim)?,
            mlp: size("mlp", &mlp)?,
            vocab: size("vocab", &vocab)?,
            tied: tied.as_ref().is_some_and(|tied| tied.value),
            extras: extras.as_ref().map_or(Ok(Extras::NONE), extras_of)?,
        };
        let [layers, hidden, heads, kv_heads, head_dim, mlp, vocab] =
            [layers, hidden, heads, kv_heads, head_dim, mlp, vocab].map(|text| Place::of(&text.referenced));
        let tied = tied.map_or(here, |tied| Place::of(&tied.referenced));
        let extras = extras.map_or(here, |extras| Place::of(&extras.referenced));
        // What is wrong with a depth that was left out is wrong with the shape.
        let shape_places = [layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied, extras];
        let places = Places { shape: shape_places, depth: here, bits: here, embedding_bits: here, head_bits: here };
        match shape.problems().into_iter().next() {
            None => Ok((shape, places)),
            Some((field, reason)) => {
                let named = shape.fields().into_iter().zip(places.shape).find(|((name, _), _)| *name == field);
                Err(named.map_or(here, |(_, place)| place).wrong(format!("shape.{field}"), reason))
            }
        }
    }
}

/// The names of tensors that not every model's layers have.
fn extras_of(names: &Spanned<Vec<String>>) -> Result<Extras> {
    let wrong = |error: Error| Place::of(&names.referenced).wrong("shape.extras", error.to_string());
    names.value.clone().try_into().map_err(wrong)
}

/// Applies the entries of `layers`; no layer may be in two of them.
fn override_layers(shape: &ModelShape, layers: &mut [LayerChoices], entries: Vec<(Text, RawLayer)>) -> Result<()> {
    let mut owners: Vec<Option<String>> = vec![None; shape.layers];
    for (key, raw) in entries {
        let place = Place::of(&key.referenced);
        let range = key.value;
        let field = format!("layers.{range}");
        let wrong = |reason: String| place.wrong(&field, reason);
        let (first, last) = range.split_once('-').unwrap_or((&range, &range));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else {
            return Err(wrong("expected a layer such as `5`, or a range such as `0-1`, ends included".into()));
        };
        if first > last {
            return Err(wrong(format!("the range is backwards; write `{last}-{first}`")));
        }
        if last >= shape.layers {
            return Err(wrong(format!("there is no layer {last}; the parent's are 0 to {}", shape.layers - 1)));
        }
        let list = |half: &str| format!("{field}.{half}");
        let RawLayer { heads, mlp, bits } = raw;
        let heads =
            heads.map(|raw| choices::heads(shape, &list("heads"), numbers(&list("heads"), raw)?)).transpose()?;
        let mlp = mlp.map(|raw| choices::mlp(shape, &list("mlp"), numbers(&list("mlp"), raw)?)).transpose()?;
        let bits = bits.map(|raw| choices::bits(&list("bits"), list_of(&list("bits"), raw, bits_at)?)).transpose()?;
        for layer in first..=last {
            if let Some(owner) = owners[layer].replace(range.clone()) {
                return Err(wrong(format!("layer {layer} is already in `{owner}`; ranges may not overlap")));
            }
            let choices = &mut layers[layer];
            choices.heads = heads.clone().unwrap_or_else(|| std::mem::take(&mut choices.heads));
            choices.mlp = mlp.clone().unwrap_or_else(|| std::mem::take(&mut choices.mlp));
            choices.bits = bits.clone().unwrap_or_else(|| std::mem::take(&mut choices.bits));
            if let Some(problem) = choices.genes().into_iter().find_map(|gene| shape.blocks_problem(gene)) {
                return Err(wrong(format!("layer {layer}: {problem}")));
            }
        }
    }
    Ok(())
}

fn drop_rule(text: Text) -> Result<DropRule> {
    match text.value.as_str() {
        "ranking" => Ok(DropRule::Ranking),
        "last" => Ok(DropRule::Last),
        other => {
            Err(Place::of(&text.referenced).wrong("drop", format!("found `{other}`, expected `ranking` or `last`")))
        }
    }
}

fn constraint((objective, limit): (Text, Text)) -> Result<Constraint> {
    let field = format!("constraints.{}", objective.value);
    Constraint::new(&objective.value, &limit.value).map_err(|error| match error {
        Error::Invalid { found, expected, .. } => {
            Place::of(&limit.referenced).wrong(field, format!("found {found}, expected {expected}"))
        }
        other => other,
    })
}

/// The whole numbers of a list.
fn numbers<T: FromStr>(field: &str, list: Spanned<List>) -> Result<At<Vec<At<T>>>> {
    list_of(field, list, number)
}

fn list_of<T>(
    field: &str,
    list: Spanned<List>,
    entry: impl Fn(&str, &Text) -> Result<At<T>>,
) -> Result<At<Vec<At<T>>>> {
    let value = list.value.0.iter().map(|text| entry(field, text)).collect::<Result<_>>()?;
    Ok(At { value, place: Place::of(&list.referenced) })
}

fn bits_at(field: &str, text: &Text) -> Result<At<Bits>> {
    bits_in(field, &text.value, Place::of(&text.referenced))
}

fn bits_in(field: &str, text: &str, place: Place) -> Result<At<Bits>> {
    let value = text.parse().map_err(|error: Error| place.wrong(field, error.to_string()))?;
    Ok(At { value, place })
}

/// The bits of an end: one, a list of choices, or unquantized where nothing is said.
fn end_bits(field: &str, entries: Option<Spanned<OneOrMore>>) -> Result<Vec<Bits>> {
    let Some(entries) = entries else { return Ok(vec![Bits::F16]) };
    let place = Place::of(&entries.referenced);
    let value = entries.value.0.iter().map(|text| bits_in(field, text, place)).collect::<Result<_>>()?;
    choices::bits(field, At { value, place })
}

fn number<T: FromStr>(field: &str, text: &Text) -> Result<At<T>> {
    let place = Place::of(&text.referenced);
    let value = text.value.parse().map_err(|_| {
        place.wrong(field, format!("`{}` is not a whole number in the range of this field", text.value))
    })?;
    Ok(At { value, place })
}

impl Place {
    fn of(location: &serde_saphyr::Location) -> Place {
        // Lines and columns are counted in 32 bits.
        Place { line: location.line() as usize, column: location.column() as usize }
    }
}

/// What the YAML reader objects to: syntax, unknown, missing or repeated fields, a scalar for a list.
fn not_yaml(error: serde_saphyr::Error) -> Error {
    let place = error.location().as_ref().map(Place::of).unwrap_or_default();
    let text = error.to_string();
    // The place is said once, in front.
    let reason = text.split(" at line ").next().unwrap_or(&text);
    place.wrong("yaml", reason.trim_end_matches(", set DuplicateKeyPolicy in Options if acceptable"))
}

/// A YAML list, each entry with its place.
struct List(Vec<Text>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of whole numbers, such as [24, 28, 32]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = entries.next_element()? {
                    list.push(entry);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(ListVisitor)
    }
}

/// A scalar, or a list of them; the place is the whole's.
struct OneOrMore(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMore, D::Error> {
        struct OneOrMoreVisitor;
        impl<'de> Visitor<'de> for OneOrMoreVisitor {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bits such as 8, or a list of them such as [8, 4]")
            }

            fn visit_u64<E>(self, number: u64) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![number.to_string()]))
            }

            fn visit_i64<E>(self, number: i64) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![number.to_string()]))
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<OneOrMore, A::Error> {
                let entries = List::deserialize(serde::de::value::SeqAccessDeserializer::new(entries))?;
                Ok(OneOrMore(entries.0.into_iter().map(|text| text.value).collect()))
            }
        }
        deserializer.deserialize_any(OneOrMoreVisitor)
    }
}

/// A YAML mapping in the order it is written, each key with its place.
struct Entries<T>(Vec<(Text, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<T>, D::Error> {
        struct EntriesVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Entries<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    list.push(entry);
                }
                Ok(Entries(list))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: &str = "shape: { layers: 4, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }\n";

    fn read(rest: &str) -> Result<SearchSpace, String> {
        SearchSpace::from_yaml(&format!("{SHAPE}{rest}")).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_every_field() {
        let space = read(
            "depth: [4, 2]\nheads: [4, 2]\nmlp:\n  - 128\n  - 64\nbits: [16, 4]\ndrop: last\n\
             layers:\n  0-1: { heads: [4] }\n  3: { mlp: [0, 32], bits: [8] }\n\
             constraints: { params: \"<= 5.0e9\", decode_tps: '>= 120' }\n",
        )
        .unwrap();
        assert_eq!(space.shape().mlp, 128);
        assert!(!space.shape().tied);
        assert_eq!(space.depths(), [2, 4]);
        assert_eq!(space.drop_rule(), DropRule::Last);
        let layers: Vec<_> = space.layers().iter().map(|l| format!("{:?} {:?} {:?}", l.heads, l.mlp, l.bits)).collect();
        assert_eq!(
            layers,
            [
                "[4] [64, 128] [Q4_0, F16]",
                "[4] [64, 128] [Q4_0, F16]",
                "[2, 4] [64, 128] [Q4_0, F16]",
                "[2, 4] [0, 32] [Q8_0]"
            ]
        );
        let constraints: Vec<_> = space.constraints().iter().map(ToString::to_string).collect();
        assert_eq!(constraints, ["params <= 5000000000", "decode_tps >= 120"]);
    }

    #[test]
    fn ends_take_one_format_or_a_choice_of_them() {
        let ends = |text: &str| {
            let EndChoices { embedding, head } =
                read(&format!("heads: [4]\nmlp: [128]\n{text}")).unwrap().ends().clone();
            format!("{embedding:?} {head:?}")
        };
        assert_eq!(ends(""), "[F16] [F16]");
        assert_eq!(ends("embedding_bits: 8\n"), "[Q8_0] [F16]");
        assert_eq!(ends("embedding_bits: [16, q4_1, 4]\nhead_bits: Q8_0\n"), "[Q4_0, Q4_1, F16] [Q8_0]");
    }

    #[test]
    fn fills_in_what_is_left_out() {
        let space = read("heads: [4]\nmlp: [128]\n").unwrap();
        assert_eq!(space.depths(), [4]);
        assert_eq!(space.drop_rule(), DropRule::Ranking);
        assert_eq!(space.layer(0), &LayerChoices { heads: vec![4], mlp: vec![128], bits: vec![Bits::F16] });
        assert!(space.constraints().is_empty());
    }

    #[test]
    fn points_at_what_is_wrong() {
        let fine = "heads: [4]\nmlp: [128]\n";
        for (rest, complaint) in [
            ("heads: [3]\nmlp: [128]", "line 2 column 9: heads: 3 heads are no multiple of 2"),
            ("heads: [2, 6]\nmlp: [128]", "line 2 column 12: heads: 6 heads are more than the parent's 4"),
            ("heads: [4]\nmlp: [64,\n 129]", "line 4 column 2: mlp: width 129 is more than the parent's 128"),
            ("heads: []\nmlp: [128]", "line 2 column 8: heads: the list is empty"),
            ("heads: [4, 2, 4]\nmlp: [128]", "line 2 column 15: heads: 4 stands twice"),
            ("heads: [-2]\nmlp: [128]", "line 2 column 9: heads: `-2` is not a whole number"),
            ("heads: [4]\nmlp: [64.5]", "line 3 column 7: mlp: `64.5` is not a whole number"),
            ("heads: [4]\nmlp: [99999999999]", "line 3 column 7: mlp: `99999999999` is not a whole number"),
            (
                "heads: 4\nmlp: [128]",
                "line 2 column 1: yaml: invalid type: integer `4`, expected a list of whole numbers",
            ),
            ("heads: [4]", "line 2 column 1: yaml: missing field `mlp`"),
            ("depth: [4, 0]\n", "line 2 column 12: depth: depth 0 is not between 1 and the parent's 4"),
            ("bits: [16, 5]\n", "line 2 column 12: bits: unknown bits `5`; known: 16, 8, q6_k"),
            ("bits: [300]\n", "line 2 column 8: bits: unknown bits `300`; known"),
            ("embedding_bits: 5\n", "line 2 column 17: embedding_bits: unknown bits `5`; known"),
            ("head_bits: [8, 8]\n", "line 2 column 12: head_bits: 8 stands twice"),
            ("head_bits: { 8: 4 }\n", "line 2 column 12: yaml: invalid type: map, expected bits such as 8"),
            ("bits: [16, q3_k]\n", "line 2 column 7: bits: layer 0: hidden size"),
            (
                "layers:\n  1: { bits: [8], mlp: [100] }\n",
                "line 3 column 3: layers.1: layer 1: mlp width 100, for Q8_0",
            ),
            ("embedding_bits: 8\nhead_bits: q2_k\n", "line 3 column 12: head_bits: hidden size"),
            ("drop: first\n", "line 2 column 7: drop: found `first`, expected `ranking` or `last`"),
            ("head: [4]\n", "line 2 column 1: yaml: unknown field `head`, expected one of"),
            ("depth: [4]\ndepth: [3]\n", "line 3 column 1: yaml: duplicate mapping key: depth"),
            ("layers: { 0-4: {} }\n", "line 2 column 11: layers.0-4: there is no layer 4; the parent's are 0 to 3"),
            ("layers: { 2-1: {} }\n", "line 2 column 11: layers.2-1: the range is backwards; write `1-2`"),
            ("layers: { one: {} }\n", "line 2 column 11: layers.one: expected a layer such as `5`"),
            ("layers:\n  0-2: {}\n  2: {}\n", "line 4 column 3: layers.2: layer 2 is already in `0-2`"),
            ("layers:\n  0: {}\n  0: {}\n", "line 4 column 3: yaml: duplicate mapping key: 0"),
            ("layers: { 0: { heads: [1] } }\n", "line 2 column 24: layers.0.heads: 1 heads are no multiple of 2"),
            ("layers: { 0: { head: [4] } }\n", "line 2 column 16: yaml: unknown field `head`"),
            (
                "constraints: { params: 5e9 }\n",
                "line 2 column 24: constraints.params: found `params 5e9`, expected `<=`",
            ),
        ] {
            // Entries that are not about these two get them.
            let whole = if rest.starts_with("heads") { rest.to_string() } else { format!("{rest}{fine}") };
            let error = read(&whole).unwrap_err();
            assert!(error.starts_with(&format!("search space, {complaint}")), "{whole}\n  {error}");
        }
    }

    #[test]
    fn refuses_a_space_that_allows_a_network_with_no_layer() {
        let error = read("depth: [2, 4]\nheads: [0, 4]\nmlp: [0, 128]\n").unwrap_err();
        assert!(error.starts_with("search space, line 2 column 8: depth: at depth 2 every layer"), "{error}");
        let error = read("heads: [0, 4]\nmlp: [0, 128]\n").unwrap_err();
        assert!(error.starts_with("search space, line 1 column 8: depth: at depth 4 every layer"), "{error}");
        read("depth: [2, 4]\nheads: [0, 4]\nmlp: [0, 128]\nlayers: { 0: { heads: [4] } }\n").unwrap();
    }

    #[test]
    fn points_into_the_shape() {
        let read = |old: &str, new: &str| {
            let text = format!("{SHAPE}heads: [4]\nmlp: [128]\n").replace(old, new);
            SearchSpace::from_yaml(&text).unwrap_err().to_string()
        };
        for (old, new, complaint) in [
            ("layers: 4", "layers: 0", "line 1 column 18: shape.layers: found 0, expected 1 to 4096"),
            ("layers: 4", "layers: 4000000000", "line 1 column 18: shape.layers: found 4000000000"),
            ("layers: 4", "layers: many", "line 1 column 18: shape.layers: `many` is not a whole number"),
            ("kv_heads: 2", "kv_heads: 3", "line 1 column 53: shape.kv_heads: found 3, which does not divide 4 heads"),
            ("vocab: 512", "vocab: 512, tied: maybe", "line 1 column 98: yaml: invalid boolean"),
            (", vocab: 512", "", "line 1 column 70: yaml: missing field `vocab`"),
            ("vocab: 512", "vocab: 512, size: 1", "line 1 column 92: yaml: unknown field `size`"),
        ] {
            let error = read(old, new);
            assert!(error.starts_with(&format!("search space, {complaint}")), "{new}\n  {error}");
        }
    }

    #[test]
    fn survives_text_that_is_no_space() {
        for text in [
            "",
            "null",
            "- 1",
            "[",
            "\u{0}",
            "shape",
            "{}",
            "&a [*a]",
            "shape: *x",
            "--- 1\n--- 2",
            "\t",
            "%YAML 9",
            "!!x y",
        ] {
            let error = SearchSpace::from_yaml(text).unwrap_err();
            assert!(matches!(error, Error::Space { .. }), "{text:?}: {error}");
        }
        let bomb: String = std::iter::repeat_n('[', 100_000).collect();
        assert!(SearchSpace::from_yaml(&bomb).is_err());
    }
}
