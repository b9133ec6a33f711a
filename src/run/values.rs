//! Named values of a network, in an order of their own.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Named values, each name once: an object in JSON, whose order is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(Vec<(String, f64)>);

/// The largest whole number below which all of them are exact.
const EXACT: f64 = (1_u64 << 53) as f64;

impl Values {
    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Sets a value: in the place of the one of this name, or behind all others.
    pub fn set(&mut self, name: &str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_string(), value)),
        }
    }

    /// Takes a value away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl<S: ToString> FromIterator<(S, f64)> for Values {
    fn from_iter<I: IntoIterator<Item = (S, f64)>>(values: I) -> Values {
        let mut all = Values::default();
        values.into_iter().for_each(|(name, value)| all.set(&name.to_string(), value));
        all
    }
}

impl Serialize for Values {
    /// Whole numbers, such as bytes, are written as such.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            if value.fract() == 0.0 && (0.0..EXACT).contains(&value) && !value.is_sign_negative() {
                map.serialize_entry(name, &(value as u64))?;
            } else {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(entry) = map.next_entry::<String, f64>()? {
                    if values.iter().any(|(name, _)| *name == entry.0) {
                        return Err(serde::de::Error::custom(format!("`{}` stands twice", entry.0)));
                    }
                    values.push(entry);
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_order_and_every_bit() {
        let mut values: Values =
            [("choice_nll:t", 1.0 / 3.0), ("params", 134_515_008.0), ("kl:t", -0.0), ("macs", 1e300)]
                .into_iter()
                .collect();
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(json, "{\"choice_nll:t\":0.3333333333333333,\"params\":134515008,\"kl:t\":-0.0,\"macs\":1e+300}");
        let read: Values = serde_json::from_str(&json).unwrap();
        assert_eq!(read, values);
        assert!(read.get("kl:t").unwrap().is_sign_negative());
        values.set("params", 1.0);
        values.set("new", 2.0);
        values.remove("macs");
        assert_eq!(values.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["choice_nll:t", "params", "kl:t", "new"]);
        assert!(serde_json::from_str::<Values>("{\"a\":1,\"a\":2}").is_err());
    }
}
