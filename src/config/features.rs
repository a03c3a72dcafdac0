//! Losses between layers of a student and of its teacher: which there are, and of which layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::words::words;

words! {
    /// What of a student's and its teacher's layers is compared; each has a weight of this name in `[distill]`.
    FeatureKind {
        /// The direction of the last layers' hidden states (Sanh et al. 2019, "DistilBERT").
        Cosine = "cosine",
        /// Hidden states of layers beside each other, the student's through a learnt projection (Jiao et al. 2020,
        /// "TinyBERT").
        Hidden = "hidden",
        /// Self-attention relations of a layer (Wang et al. 2021, "MiniLMv2").
        Relations = "relations",
        /// The direction of an early layer, through a learnt projection, beside the teacher's last (Zhao et al. 2026,
        /// "LET").
        Early = "early",
    }
}

impl FeatureKind {
    /// Those whose layers can be chosen.
    pub(super) const WITH_LAYERS: [Self; 3] = [FeatureKind::Hidden, FeatureKind::Relations, FeatureKind::Early];

    /// The key of its weight, and, where its layers can be chosen, of these.
    pub(crate) fn keys(self) -> (&'static str, Option<&'static str>) {
        match self {
            FeatureKind::Cosine => ("distill.cosine", None),
            FeatureKind::Hidden => ("distill.hidden", Some("distill.hidden_layers")),
            FeatureKind::Relations => ("distill.relations", Some("distill.relation_layers")),
            FeatureKind::Early => ("distill.early", Some("distill.early_layers")),
        }
    }

    /// The layers that are compared where none are written, of models of so many layers.
    pub(super) fn layers(self, student: usize, teacher: usize) -> LayerMap {
        match self {
            FeatureKind::Cosine | FeatureKind::Relations => LayerMap(vec![[student, teacher]]),
            FeatureKind::Hidden => LayerMap::even(student, teacher),
            FeatureKind::Early => LayerMap(vec![[student.div_ceil(3), teacher]]),
        }
    }
}

/// Layers of a student, each beside one of its teacher: `0:0, 2:1, 4:2`. 0 is what the first layer reads, the
/// embeddings; the highest number is the last layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerMap(Vec<[usize; 2]>);

impl LayerMap {
    /// Pairs of a student's layer and a teacher's.
    pub fn pairs(&self) -> &[[usize; 2]] {
        &self.0
    }

    /// Every layer of the model that has fewer, and the embeddings, beside those of the other at the same share of its
    /// depth (Jiao et al. 2020: layer `m` of `M` beside `m N / M` of `N`), rounded.
    fn even(student: usize, teacher: usize) -> Self {
        let fewer = student.min(teacher);
        let at = |layer: usize, all: usize| (layer * all + fewer / 2).checked_div(fewer).unwrap_or(0);
        Self((0..=fewer).map(|layer| [at(layer, student), at(layer, teacher)]).collect())
    }
}

impl FromStr for LayerMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = |part: &str| {
            let (student, teacher) = part.split_once(':')?;
            Some([student.trim().parse().ok()?, teacher.trim().parse().ok()?])
        };
        let pairs: Option<Vec<[usize; 2]>> = text.split(',').map(|part| pair(part.trim())).collect();
        pairs.map(LayerMap).ok_or_else(|| format!("is {text:?}, and not layers such as \"0:0, 2:1, 4:2\""))
    }
}

impl TryFrom<String> for LayerMap {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LayerMap> for String {
    fn from(layers: LayerMap) -> Self {
        layers.to_string()
    }
}

impl fmt::Display for LayerMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|[student, teacher]| format!("{student}:{teacher}")).collect();
        f.write_str(&pairs.join(", "))
    }
}

/// A loss between layers of a student and of its teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayersPlan {
    /// Its weight.
    pub weight: Schedule,
    /// Which layers are compared.
    pub layers: LayerMap,
    /// Heads that both models' queries, keys and values are divided into for self-attention relations; 0 of other
    /// losses.
    #[serde(default, skip_serializing_if = "is_none")]
    pub heads: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// The losses between layers whose layers can be chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerLosses {
    /// Between hidden states of layers, the student's projected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<LayersPlan>,
    /// Between self-attention relations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relations: Option<LayersPlan>,
    /// Between an early layer, projected, and the teacher's last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<LayersPlan>,
}

impl LayerLosses {
    /// Those that there are.
    pub fn iter(&self) -> impl Iterator<Item = (FeatureKind, &LayersPlan)> {
        let plans = [&self.hidden, &self.relations, &self.early];
        FeatureKind::WITH_LAYERS.into_iter().zip(plans).filter_map(|(kind, plan)| Some((kind, plan.as_ref()?)))
    }

    /// Those that there are, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LayersPlan> {
        [&mut self.hidden, &mut self.relations, &mut self.early].into_iter().flatten()
    }

    /// Which projections are learnt: of hidden states, of the embeddings, of an early layer.
    pub fn projections(&self) -> [bool; 3] {
        let of_hidden = |is_wanted: fn(usize) -> bool| {
            self.hidden.as_ref().is_some_and(|plan| plan.layers.pairs().iter().any(|pair| is_wanted(pair[0])))
        };
        [of_hidden(|layer| layer > 0), of_hidden(|layer| layer == 0), self.early.is_some()]
    }

    /// Whether there is none, and they stand in no plan.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}
