"""Sentences in many scripts: to train small tokenizers on, and others to encode."""

DOCUMENTS = (
    "A tokenizer cuts a text into pieces. Frequent words stay whole, rare words fall into several pieces, and no word "
    "is lost. The pieces are numbers to the model: it never sees the letters that they are made of.",
    "The weather in the mountains changes quickly. In the morning the sun was shining, at noon it rained, and in the "
    "evening there was snow on the roofs. They don't trust the forecast; they've seen it fail 3 times in 10 days.",
    "El año pasado el niño comió piñas y jamón en la mañana. ¿Qué pasó después? ¡Nadie lo sabe! La señora de la "
    "montaña dijo que la lluvia volvería en otoño, y volvió.",
    "Über den Wolken scheint die Sonne, und die Straßen glänzen nach dem Regen. Die Wörter werden in Stücke zerlegt; "
    "häufige Wörter bleiben ganz, seltene Wörter zerfallen in mehrere Stücke.",
    "L'été dernier, la mer était déjà chaude au mois de juin. Où êtes-vous allés ? Nous sommes restés près de la "
    "forêt, et le garçon a mangé des pâtes à la crème.",
    "今天天气很好，我们去公园散步。公园里有很多人，也有很多花。中文的词之间没有空格。",
    "東京タワーはとても高いです。昨日は雨が降りましたが、今日は晴れています。日本語には空白がありません。",
    "Сегодня хорошая погода, и мы идём гулять в парк. Вчера шёл дождь, а завтра будет снег. Слова делятся на части.",
    "الطقس جميل اليوم، ونحن نمشي في الحديقة. الكلمات مقسمة إلى أجزاء صغيرة.",
    "आज मौसम अच्छा है और हम बाग में घूम रहे हैं। कल बारिश हुई थी।",
    "วันนี้อากาศดีมาก เราไปเดินเล่นที่สวน เมื่อวานฝนตก",
    "오늘은 날씨가 좋아서 공원에 갔습니다. 어제는 비가 왔습니다.",
    "def cut(text, size):\n    return [text[i : i + size] for i in range(0, len(text), size)]"
    "  # the last may be shorter",
    "Emoji 😀 🎉 are four bytes each; a family 👩‍👩‍👧 is five characters joined. Prices: 12.50 €, 3,000 ¥, 7%.",
)

TEXTS = (
    "The tokenizer cuts words into pieces, and the pieces are numbers.",
    "They don't know; it's (perhaps) 3.14 -- or 2,718?!",
    "  two spaces  before,   three inside, one after ",
    "tabs\tand\nnew lines\r\nand\u00a0no-break\u200bzero width",
    "El niño de la montaña comió piñas. ¿Qué pasó?",
    "e\u0301te\u0301 decomposed, été composed; ﬁne ｆｕｌｌ ① ½ ²",
    "Straßen glänzen; ISTANBUL, İstanbul, ΣΊΣΥΦΟΣ, ẞ",
    "今天天气很好。 東京タワーは高い。 오늘은 날씨가 좋아서",
    "Сегодня хорошая погода, الطقس جميل اليوم، आज मौसम अच्छा है วันนี้อากาศดีมาก",
    "unseen: Ж ქართული ᚠᛇᚻ \U0001f9ff 😀🎉👩‍👩‍👧",
    "▁literal ▁▁marks Ġ Ċ ## ##s a",
    "x" * 120,
    "",
    " ",
    "\x00control\x01 \x7f \ufffd",
)
PAIR = ("The words fall into pieces.", "No word is lost.")
# With {} for the mask.
MASKED = "The weather in the {} changes quickly."

# To add to a tokenizer, and texts that hold them. WordPiece would cut those of the second line.
ADDED = ("covid", "montañés", "ვირუსი")
ADDED_IN_PIECES = ("covid-19", "新冠", "c++")
ADDED_TEXTS = (
    "covid",
    "The covid crisis: covid, covid's (covid) and anti-covid; covid.",
    "no covidien, xcovid, covid_19 or covid19, but covid-19 and covid/covid",
    "el montañés  y su covid\n\ncovid\tmontañés",
    "ვირუსი ვირუსიც «ვირუსი»",
    "他们新冠了，新冠 covid。c++ c++11",
    "COVID Covid ＣＯＶＩＤ MONTAÑÉS",
    " covid covid ",
)
