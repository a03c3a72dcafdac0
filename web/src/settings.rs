//! What a visitor chooses, and the run files that it comes to.

use serde::{Deserialize, Serialize};
use upstill::{Error, Result};

/// A visitor's choices. In a link they are query parameters of these names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What the layers of all three are: `bert`, which fills masks, or `llama`, which predicts what comes next.
    pub family: String,
    /// Layers of the teacher; it is as wide as the student.
    pub teacher_layers: u32,
    /// Layers of both students.
    pub layers: u32,
    /// Width of all three.
    pub hidden: u32,
    /// Weight of the soft loss: a schedule.
    pub soft: String,
    /// Temperature of the soft loss: a schedule.
    pub temperature: String,
    /// How the distilled student starts: `fresh` or `remap`.
    pub start: String,
    /// Decides initial weights, order and masks.
    pub seed: u32,
    /// The highest learning rate.
    pub lr: f64,
    /// Steps of each student.
    pub steps: u32,
    /// Steps of the teacher.
    pub teacher_steps: u32,
    /// Rows a step.
    pub batch: u32,
    /// Tokens a row.
    pub length: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            family: "bert".into(),
            teacher_layers: 1,
            layers: 3,
            hidden: 64,
            soft: "4 -> 1 linear".into(),
            temperature: "2".into(),
            start: "fresh".into(),
            seed: 1,
            lr: 5e-3,
            steps: 300,
            teacher_steps: 300,
            batch: 16,
            length: 64,
        }
    }
}

/// The three models of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Smaller, and trained first.
    Teacher,
    /// A student that learns from the text alone.
    Alone,
    /// A student that learns the teacher's predictions as a second target.
    Distilled,
}

impl Role {
    /// All of them, in the order in which they train.
    pub const ALL: [Role; 3] = [Role::Teacher, Role::Alone, Role::Distilled];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Role::Teacher => "teacher",
            Role::Alone => "alone",
            Role::Distilled => "distilled",
        }
    }

    /// The folder of its run, beside the run files.
    pub fn folder(self) -> String {
        format!("runs/{}", self.name())
    }
}

impl Settings {
    /// Reads what a page or a link says.
    ///
    /// # Errors
    /// When it is no JSON object of these settings.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|error| Error::new(format!("the settings can't be read: {error}")).help("reset them to the defaults"))
    }

    /// The run file of one of the models, as the command reads it; `shards` names the data.
    pub fn run_file(&self, role: Role, shards: &str) -> String {
        let (layers, steps) = match role {
            Role::Teacher => (self.teacher_layers, self.teacher_steps),
            _ => (self.layers, self.steps),
        };
        let method = if role == Role::Distilled { "dwt" } else { "standalone" };
        let mut out = format!(
            "method = \"{method}\"\nseed = {}\n\n[model]\nfamily = {}\nlayers = {layers}\nhidden = {}\nheads = {}\nmax_positions = {}\ndropout = 0.0\n\n",
            self.seed,
            quoted(&self.family),
            self.hidden,
            (self.hidden / 32).max(1),
            self.length,
        );
        if role == Role::Distilled {
            out += &format!(
                "[teacher]\nfrom = {}\n\n[distill]\nhard = 1.0\nsoft = {}\ntemperature = {}\nstart = {}\n\n",
                quoted(&Role::Teacher.folder()),
                quoted(&self.soft),
                quoted(&self.temperature),
                quoted(&self.start),
            );
        }
        out += &format!(
            "[data]\nshards = {}\nrows = \"packed\"\nlength = {}\n\n\
             [train]\nsteps = {steps}\nbatch = {}\nlr = \"0 -> {} over 15%, then -> 0 linear\"\n\
             evaluate_every = {}\nevaluate_rows = 64\ncheckpoint_every = {}\nkeep_checkpoints = 1\n",
            quoted(shards),
            self.length,
            self.batch,
            self.lr,
            (steps / 20).max(1),
            steps.max(1),
        );
        out
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use upstill::config::RunFile;

    #[test]
    fn the_run_files_are_the_commands() {
        for role in Role::ALL {
            let text = Settings::default().run_file(role, "pocket");
            let file = RunFile::parse(&text, "a test").unwrap();
            assert_eq!(file.wanted().shards.as_deref(), Some("pocket"), "{text}");
            assert_eq!(file.wanted().teacher.is_some(), role == Role::Distilled, "{text}");
        }
    }

    #[test]
    fn nonsense_stays_text() {
        let settings = Settings { soft: "1\"\n[model]\nlayers = 99".into(), ..Settings::default() };
        let text = settings.run_file(Role::Distilled, "pocket");
        assert_eq!(text.matches("\nlayers = ").count(), 1, "{text}");
        assert!(Settings::parse("{\"layers\": -1}").is_err());
        assert!(Settings::parse("{\"no_such\": 1}").unwrap_err().to_string().contains("no_such"));
    }
}
