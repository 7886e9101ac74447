//! Texts without spaces between their words, found by words alone: the built-in embedder knows none of their characters.

use super::*;

const JAPANESE: &str = "# 取扱説明書\n\n## 冷却\n\n冷却水ポンプの異音は、軸受の摩耗が原因です。毎月点検してください。\n\n## 潤滑\n\n潤滑油は二千時間ごとに交換します。\
                        使用する油はISO VG 46です。\n";
const CHINESE: &str = "# 操作手册\n\n## 液压\n\n液压站压力下降时，请先检查滤芯是否堵塞。\n\n## 电气\n\n主开关位于左侧柜门内，备用保险丝在抽屉里。\n";
const THAI: &str = "# คู่มือ\n\n## น้ำมัน\n\nควรเปลี่ยนน้ำมันเครื่องทุกสองพันชั่วโมง\n\n## ไฟฟ้า\n\nสวิตช์หลักอยู่ที่ประตูด้านซ้าย\n";

async fn first(site: &Site, query: &str) -> String {
    site.places(query).await.into_iter().next().unwrap_or_default()
}

#[tokio::test]
async fn words_without_spaces_are_found_by_themselves_and_in_questions() {
    let site = site(&[
        ("documents/manuals/ja.md", JAPANESE),
        ("documents/manuals/zh.md", CHINESE),
        ("documents/manuals/th.md", THAI),
        ("documents/manuals/press.md", PRESS),
    ])
    .await;
    for (query, place) in [
        ("潤滑油", "取扱説明書 > 潤滑"),
        ("冷却水ポンプから音がするのはなぜですか", "取扱説明書 > 冷却"),
        ("油の交換", "取扱説明書 > 潤滑"),
        ("滤芯", "操作手册 > 液压"),
        ("备用保险丝在哪里？", "操作手册 > 电气"),
        ("น้ำมันเครื่อง", "คู่มือ > น้ำมัน"),
        ("dusty filter", "Press 3 > Cooling"),
    ] {
        assert_eq!(first(&site, query).await, place, "{query}");
    }
    assert_eq!(first(&site, "圧縮空気").await, "", "no two characters stand side by side anywhere");
}

#[tokio::test]
async fn a_sentence_in_the_middle_of_a_long_text_is_a_passage_with_little_beside_it() {
    let filling =
        |from: usize| (from..from + 80).map(|n| format!("第{n}工程の手順は別紙にあります。")).collect::<String>();
    let text = format!("{}非常停止ボタンは制御盤の右にあります。{}", filling(100), filling(300));
    let site = site(&[("documents/manuals/long.txt", &text)]).await;
    let done = site.call("retrieve", json!({"index": "manuals", "query": "非常停止"})).await.expect("found");
    let passage = done.output["passages"][0]["text"].as_str().expect("a text").to_owned();
    assert!(passage.contains("非常停止ボタン") && passage.chars().count() < 250, "{passage}");
}

#[tokio::test]
async fn what_was_stored_before_is_put_into_the_full_text_anew_in_idle_time() {
    let site = site(&[("documents/manuals/ja.md", JAPANESE), ("documents/manuals/press.md", PRESS)]).await;
    let store = &site.memory.inner.store;
    let count = |sql: &'static str| {
        store
            .read_blocking("count", move |connection| connection.query_row(sql, [], |row| row.get::<_, i64>(0)))
            .expect("counted")
    };
    // As an agent before left it.
    let before = store.write("make it old", |tx| {
        let connection = tx.connection();
        connection.execute_batch(
            "INSERT INTO memory_text (memory_text) VALUES ('rebuild');
             INSERT INTO memory_joined SELECT id FROM memory_chunk WHERE apart(text) <> text;",
        )?;
        Ok(connection.query_row("SELECT count(*) FROM memory_joined", [], |row| row.get::<_, i64>(0))?)
    });
    let before = before.await.expect("made old");
    assert_eq!((before, first(&site, "潤滑油").await.as_str()), (2, ""));
    // One is removed as it stands, the other made anew.
    store
        .write("remove", |tx| Ok(tx.connection().execute("DELETE FROM memory_chunk WHERE place LIKE '%冷却'", [])?))
        .await
        .expect("removed");
    assert_eq!(count("SELECT count(*) FROM memory_joined"), 1);
    let inner = Arc::clone(&site.memory.inner);
    let part = tokio::task::spawn_blocking(move || while inner.part_words().expect("parted") {});
    part.await.expect("no panic");
    assert_eq!(first(&site, "潤滑油").await, "取扱説明書 > 潤滑");
    assert_eq!(count("SELECT count(*) FROM memory_text WHERE memory_text MATCH '\"異 音\"'"), 0);
    assert_eq!(first(&site, "dusty filter").await, "Press 3 > Cooling");
}
