//! Keys of a `config.json`, read one at a time.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Beyond any model that there is; tensors of a size are asked for only once the weights' own sizes agree.
pub(super) const LARGEST: usize = 1 << 24;
/// The deepest that a model may claim to be, in layers.
pub(super) const DEEPEST: usize = 1 << 10;

/// A key that is there and not null.
pub(super) fn given<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|value| !value.is_null())
}

/// True or false, where the file says.
pub(super) fn flag(config: &Value, key: &str) -> Result<Option<bool>> {
    let of = |value: &Value| {
        value.as_bool().ok_or_else(|| Error::new(format!("config.json has {key} = {value}, and not true or false")))
    };
    given(config, key).map(of).transpose()
}

/// A whole number from `least` to `most`.
pub(super) fn whole(config: &Value, key: &str, least: usize, most: usize) -> Result<usize> {
    let found = config.get(key).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
    match found.filter(|&value| value >= least) {
        None => Err(Error::new(format!("config.json has no whole number of {least} or more for {key:?}"))),
        Some(found) if found > most => Err(Error::new(format!("config.json has {key} = {found}, more than any model has"))
            .help("fetch the model's config.json again")),
        Some(found) => Ok(found),
    }
}

/// A number from 0 to below 1, or what it is where the file doesn't say.
pub(super) fn share(config: &Value, key: &str, otherwise: f64) -> Result<f64> {
    let Some(given) = given(config, key) else { return Ok(otherwise) };
    let number = given.as_f64().filter(|share| (0.0..1.0).contains(share));
    number.ok_or_else(|| Error::new(format!("config.json has {key} = {given}, and not a number from 0 to below 1")))
}

/// An epsilon of norms, or what it is where the file doesn't say.
pub(super) fn epsilon(config: &Value, key: &str, otherwise: f64) -> Result<f64> {
    let Some(given) = given(config, key) else { return Ok(otherwise) };
    let number = given.as_f64().filter(|epsilon| *epsilon > 0.0 && *epsilon < 1.0);
    number.ok_or_else(|| Error::new(format!("config.json has {key} = {given}, and not a number between 0 and 1")))
}

/// Refuses a model that is no encoder, or not as it was trained.
pub(super) fn refuse_other_kinds(config: &Value) -> Result<()> {
    for (key, what) in [("is_decoder", "a decoder"), ("add_cross_attention", "a decoder with cross-attention")] {
        if flag(config, key)? == Some(true) {
            return Err(Error::new(format!("the model is {what} ({key}), and upstill trains encoders")));
        }
    }
    for (key, what) in [("pruned_heads", "some of its attention heads are cut out"), ("quantization_config", "it is quantised")] {
        let is_empty =
            |value: &Value| value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if given(config, key).is_some_and(|value| !is_empty(value)) {
            return Err(Error::new(format!("the model's config.json has {key}: {what}, which upstill doesn't read"))
                .help("take the model as it was before"));
        }
    }
    Ok(())
}
