//! The words of the pocket language, and the facts that are the same in every text of it.

/// A class of nouns with the words that go with it and with no other: selection and agreement are learnt from these.
pub struct Kind {
    /// The class's own name: also a word, for what the nouns have in common.
    pub name: &'static str,
    /// Singular nouns; the plural adds `s`.
    pub nouns: [&'static str; 8],
    /// Verbs without an object, as in "they sing"; the singular adds `s`.
    pub acts: [&'static str; 5],
    /// Verbs with an object, in the plural and as a participle.
    pub does: [(&'static str, &'static str); 4],
    /// Adjectives.
    pub is: [&'static str; 5],
}

/// The classes of nouns. Each two neighbours (0 and 1, 2 and 3, ...) are opposites: what one is, the other is said not to be.
pub const KINDS: [Kind; 8] = [
    Kind {
        name: "person",
        nouns: ["boy", "girl", "king", "nurse", "farmer", "guard", "sailor", "poet"],
        acts: ["sing", "talk", "read", "write", "laugh"],
        does: [("help", "helped"), ("know", "known"), ("greet", "greeted"), ("thank", "thanked")],
        is: ["happy", "proud", "polite", "shy", "clever"],
    },
    Kind {
        name: "animal",
        nouns: ["dog", "cat", "horse", "goat", "bear", "rabbit", "parrot", "cow"],
        acts: ["sleep", "eat", "bite", "jump", "drink"],
        does: [("chase", "chased"), ("fear", "feared"), ("smell", "smelled"), ("hear", "heard")],
        is: ["hungry", "wild", "tame", "furry", "lazy"],
    },
    Kind {
        name: "vehicle",
        nouns: ["car", "truck", "train", "boat", "tram", "van", "ship", "cart"],
        acts: ["stop", "turn", "arrive", "leave", "brake"],
        does: [("overtake", "overtaken"), ("block", "blocked"), ("carry", "carried"), ("hit", "hit")],
        is: ["fast", "noisy", "empty", "late", "full"],
    },
    Kind {
        name: "tool",
        nouns: ["hammer", "saw", "axe", "drill", "spade", "rake", "needle", "chisel"],
        acts: ["cut", "rust", "break", "shine", "bend"],
        does: [("mark", "marked"), ("scrape", "scraped"), ("split", "split"), ("dent", "dented")],
        is: ["sharp", "blunt", "heavy", "light", "sturdy"],
    },
    Kind {
        name: "plant",
        nouns: ["tree", "rose", "vine", "tulip", "fern", "oak", "reed", "herb"],
        acts: ["grow", "bloom", "wilt", "spread", "sprout"],
        does: [("shade", "shaded"), ("cover", "covered"), ("surround", "surrounded"), ("adorn", "adorned")],
        is: ["green", "fresh", "tall", "leafy", "thorny"],
    },
    Kind {
        name: "dish",
        nouns: ["soup", "stew", "cake", "pie", "sauce", "salad", "pudding", "roast"],
        acts: ["boil", "cool", "spill", "steam", "spoil"],
        does: [("warm", "warmed"), ("stain", "stained"), ("fill", "filled"), ("sweeten", "sweetened")],
        is: ["hot", "cold", "sweet", "sour", "salty"],
    },
    Kind {
        name: "weather",
        nouns: ["storm", "cloud", "wind", "shower", "gale", "flood", "frost", "breeze"],
        acts: ["rise", "fade", "roar", "lift", "end"],
        does: [("soak", "soaked"), ("darken", "darkened"), ("chill", "chilled"), ("shake", "shaken")],
        is: ["dark", "mild", "fierce", "distant", "sudden"],
    },
    Kind {
        name: "building",
        nouns: ["house", "tower", "bridge", "barn", "castle", "shop", "mill", "temple"],
        acts: ["stand", "lean", "burn", "close", "open"],
        does: [("face", "faced"), ("overlook", "overlooked"), ("protect", "protected"), ("border", "bordered")],
        is: ["old", "grand", "narrow", "tidy", "cosy"],
    },
];

/// "carry" makes "carries", "sing" makes "sings".
pub fn singular_verb(plural: &str) -> String {
    match plural.strip_suffix("ry") {
        Some(stem) => format!("{stem}ries"),
        None => format!("{plural}s"),
    }
}

/// The people. Person `4 f + t` is of family `f` and works in team `t`.
pub const PEOPLE: [&str; 16] = [
    "anna", "ben", "carol", "david", //
    "emma", "frank", "grace", "henry", //
    "jack", "kate", "leo", "mary", //
    "nina", "oscar", "paul", "sara",
];
/// Where each family lives.
pub const CITIES: [&str; 4] = ["york", "rome", "oslo", "cairo"];
/// What each team does for a living.
pub const JOBS: [&str; 4] = ["baker", "doctor", "teacher", "lawyer"];
/// What people keep.
pub const PETS: [&str; 4] = ["hamster", "turtle", "canary", "ferret"];

/// What a relation goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Within a family: "mother", "father".
    Family,
    /// Within a team: "boss", "coach".
    Team,
}

impl Group {
    /// The other one.
    pub fn other(self) -> Group {
        match self {
            Group::Family => Group::Team,
            Group::Team => Group::Family,
        }
    }

    /// Which family or team a person is of.
    pub fn of(self, person: usize) -> usize {
        match self {
            Group::Family => person / 4,
            Group::Team => person % 4,
        }
    }
}

/// A relation: its name, what it goes by, and who it is in each of the four groups.
pub struct Relation {
    /// The word for it.
    pub name: &'static str,
    /// What it goes by.
    pub group: Group,
    /// The person that it leads to, by family or team.
    pub holder: [usize; 4],
}

/// The relations. One that goes by family leads to a person whose team is news, and the other way round, so that each link of
/// "the boss of the mother of ben" is a look-up of its own.
pub const RELATIONS: [Relation; 4] = [
    Relation { name: "mother", group: Group::Family, holder: [0, 6, 9, 15] },
    Relation { name: "father", group: Group::Family, holder: [3, 5, 8, 14] },
    Relation { name: "boss", group: Group::Team, holder: [4, 13, 2, 11] },
    Relation { name: "coach", group: Group::Team, holder: [8, 1, 14, 7] },
];

/// Where a person lives.
pub fn city(person: usize) -> &'static str {
    CITIES[Group::Family.of(person)]
}

/// What a person does for a living.
pub fn job(person: usize) -> &'static str {
    JOBS[Group::Team.of(person)]
}

/// What a person keeps.
pub fn pet(person: usize) -> &'static str {
    PETS[(person / 4 + person % 4) % 4]
}

/// What is passed from hand to hand.
pub const THINGS: [&str; 4] = ["key", "coin", "letter", "ring"];
/// The points of the compass, clockwise.
pub const DIRECTIONS: [&str; 4] = ["north", "east", "south", "west"];
/// Turns by one, two and three quarters clockwise.
pub const TURNS: [&str; 3] = ["right", "back", "left"];

/// What is praised or blamed.
pub const EVENTS: [&str; 8] = ["film", "meal", "song", "trip", "game", "lesson", "party", "play"];
/// Words of praise, and of blame.
pub const JUDGEMENTS: [[&str; 6]; 2] =
    [["awful", "boring", "bad", "dull", "terrible", "poor"], ["good", "great", "lovely", "superb", "charming", "fine"]];
/// How people feel after something bad, and after something good.
pub const FEELINGS: [[&str; 4]; 2] = [["sad", "angry", "upset", "bored"], ["glad", "pleased", "cheerful", "content"]];

/// Prepositions of place.
pub const PLACES: [&str; 4] = ["near", "behind", "above", "beside"];
/// Adverbs of manner.
pub const MANNERS: [&str; 6] = ["slowly", "often", "again", "quietly", "together", "early"];
