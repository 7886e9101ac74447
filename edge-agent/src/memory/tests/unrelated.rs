//! Questions that nothing in the documents answers, against those that something does: `models/reference/retrieval.json`, asked as `retrieve` asks.

use models::encoder::{Compute, Precision};
use serde::Deserialize;

use super::*;

/// What the passages of no set answer.
const UNRELATED: [&str; 44] = [
    "What is the capital of France?",
    "Who wrote Romeo and Juliet?",
    "How do I bake sourdough bread?",
    "When did the second world war end?",
    "What is the best way to learn the violin?",
    "Which planet is closest to the sun?",
    "How many players are in a football team?",
    "Who painted the Mona Lisa?",
    "What is the tallest mountain in the world?",
    "How do I get a mortgage for my house?",
    "What is the recipe for tiramisu?",
    "How long do cats live?",
    "Who won the election last year?",
    "What are the symptoms of the flu?",
    "How do I train my puppy?",
    "What is the exchange rate of the dollar?",
    "Which films are in the cinema tonight?",
    "How do I say hello in Spanish?",
    "What is photosynthesis?",
    "When is the next train to Berlin?",
    "Who discovered penicillin?",
    "How tall is the Eiffel Tower?",
    "What do pandas eat?",
    "How do I tie a tie?",
    "What is the population of Japan?",
    "Which wine goes with fish?",
    "How do vaccines work?",
    "What is the plot of Hamlet?",
    "Who is the president of Brazil?",
    "How do I plant tomatoes?",
    "How far is the moon?",
    "How do I write a poem?",
    "Which vitamins are in oranges?",
    "What is a black hole?",
    "Who invented the telephone?",
    "What is the offside rule?",
    "How do bees make honey?",
    "What should I wear to a wedding?",
    "How do I apply for a visa?",
    "What is the longest river in Africa?",
    "Who sang Bohemian Rhapsody?",
    "What is inflation in the economy?",
    "When do swallows migrate?",
    "What is the holiday allowance for employees?",
];

#[derive(Deserialize)]
pub(super) struct Set {
    pub machines: Machines,
    pub general: Vec<(String, String)>,
}

#[derive(Deserialize)]
pub(super) struct Machines {
    pub passages: Vec<String>,
    pub questions: Vec<(String, usize)>,
}

/// How many of the questions nothing fits: of those with an answer, and of those without.
async fn refused(embedder: Arc<dyn Embedder>) -> (usize, usize) {
    let set: Set = serde_json::from_str(include_str!("../../../../models/reference/retrieval.json")).expect("a set");
    let (asked, told): (Vec<String>, Vec<String>) = set.general.into_iter().unzip();
    let operators: Vec<String> = set.machines.questions.into_iter().map(|(question, _)| question).collect();
    let strangers = UNRELATED.map(str::to_owned).into_iter().chain(asked.clone()).collect();
    let dir = tempfile::tempdir().expect("a folder");
    for (index, passages) in [("machines", &set.machines.passages), ("general", &told)] {
        for (at, passage) in passages.iter().enumerate() {
            write(dir.path(), &[(&format!("documents/{index}/{at}.txt"), passage)]);
        }
    }
    let site = open_with(dir, embedder).await;
    let count = async |index: &str, questions: &[String]| {
        let mut count = 0;
        for question in questions {
            let done = site.call("retrieve", json!({ "index": index, "query": question })).await.expect("found");
            count += usize::from(done.output["fits"] == false);
        }
        count
    };
    let strangers: Vec<String> = strangers;
    let answered = count("machines", &operators).await + count("general", &asked).await;
    (answered, count("machines", &strangers).await + count("general", &operators).await)
}

/// The counts that `docs/memories.md` names.
#[tokio::test]
async fn no_question_that_something_answers_is_refused_and_many_others_are() {
    assert_eq!(refused(models::embed::default_embedder()).await, (0, 29));
    match std::env::var_os("SKERRY_MINILM_DIR") {
        Some(folder) => {
            let minilm = models::encoder::load_embedder(Path::new(&folder)).expect("the model's files");
            assert_eq!(refused(minilm).await, (0, 79));
            let compute = Compute { precision: Precision::Int8, ..Compute::default() };
            let in_eight_bits =
                models::encoder::load_embedder_with(Path::new(&folder), compute).expect("the same files");
            assert_eq!(refused(in_eight_bits).await, (0, 79));
        }
        None => eprintln!("skipped: SKERRY_MINILM_DIR does not name a folder with all-MiniLM-L6-v2"),
    }
}

#[tokio::test]
async fn what_is_not_known_to_be_english_is_never_refused() {
    let site = site(&[("documents/manuals/press.md", PRESS)]).await;
    let fits = async |query: &str| {
        let done = site.call("retrieve", json!({ "index": "manuals", "query": query })).await.expect("found");
        (done.output["passages"][0].is_object(), done.output["fits"] == true)
    };
    assert_eq!(fits("Which wine goes with fish?").await, (true, false), "the nearest is shown all the same");
    assert_eq!(fits("Who changes the oil?").await, (true, true));
    assert_eq!(fits("Wer schrieb Romeo und Julia?").await, (true, true));
}
