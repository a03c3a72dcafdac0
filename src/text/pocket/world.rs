//! The words of the pocket language, and the facts that are the same in every text of it.

/// A class of nouns with the words that go with it and with no other: selection and agreement are learnt from these.
pub struct Kind {
    /// The class's own name: also a word, for what the nouns have in common.
    pub name: &'static str,
    /// Singular nouns; the plural adds `s`.
    pub nouns: [&'static str; 6],
    /// What they are doing, without an object.
    pub acts: [&'static str; 4],
    /// What they have done to something.
    pub done: [&'static str; 4],
    /// Adjectives.
    pub is: [&'static str; 4],
}

/// The classes of nouns. Each two neighbours (0 and 1, 2 and 3, ...) are opposites: what one is, the other is said not
/// to be.
pub const KINDS: [Kind; 8] = [
    Kind {
        name: "person",
        nouns: ["boy", "girl", "king", "nurse", "farmer", "guard"],
        acts: ["singing", "talking", "reading", "writing"],
        done: ["helped", "known", "greeted", "thanked"],
        is: ["happy", "proud", "polite", "shy"],
    },
    Kind {
        name: "animal",
        nouns: ["dog", "cat", "horse", "goat", "bear", "rabbit"],
        acts: ["sleeping", "eating", "biting", "jumping"],
        done: ["chased", "feared", "smelled", "heard"],
        is: ["hungry", "wild", "tame", "furry"],
    },
    Kind {
        name: "vehicle",
        nouns: ["car", "truck", "train", "boat", "tram", "van"],
        acts: ["stopping", "turning", "arriving", "leaving"],
        done: ["overtaken", "blocked", "carried", "hit"],
        is: ["fast", "noisy", "empty", "late"],
    },
    Kind {
        name: "tool",
        nouns: ["hammer", "saw", "axe", "drill", "spade", "rake"],
        acts: ["cutting", "rusting", "breaking", "shining"],
        done: ["marked", "scraped", "split", "dented"],
        is: ["sharp", "blunt", "heavy", "light"],
    },
    Kind {
        name: "plant",
        nouns: ["tree", "rose", "vine", "tulip", "fern", "oak"],
        acts: ["growing", "blooming", "wilting", "spreading"],
        done: ["shaded", "covered", "surrounded", "adorned"],
        is: ["green", "fresh", "tall", "leafy"],
    },
    Kind {
        name: "dish",
        nouns: ["soup", "stew", "cake", "pie", "sauce", "salad"],
        acts: ["boiling", "cooling", "spilling", "steaming"],
        done: ["warmed", "stained", "filled", "sweetened"],
        is: ["hot", "cold", "sweet", "sour"],
    },
    Kind {
        name: "weather",
        nouns: ["storm", "cloud", "wind", "shower", "gale", "flood"],
        acts: ["rising", "fading", "roaring", "lifting"],
        done: ["soaked", "darkened", "chilled", "shaken"],
        is: ["dark", "mild", "fierce", "distant"],
    },
    Kind {
        name: "building",
        nouns: ["house", "tower", "bridge", "barn", "castle", "shop"],
        acts: ["standing", "leaning", "burning", "closing"],
        done: ["faced", "overlooked", "protected", "bordered"],
        is: ["old", "grand", "narrow", "tidy"],
    },
];

/// Words before a noun, by its number: "the" tells nothing, the others do.
pub const DETERMINERS: [[&str; 4]; 2] = [["the", "this", "every", "each"], ["the", "these", "many", "all"]];

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

/// The relations. One that goes by family leads to a person whose team is news, and the other way round, so that each
/// link of "the boss of the mother of ben" is a look-up of its own.
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
