"""Frequent Japanese surnames and given names, and the prefectures, as sets of words; nothing enters.

The surnames are a selection of the most frequent ones, a fact that several registers publish alike; the given names
are common ones of several generations. Words that clinical texts use otherwise are left out.
"""

from __future__ import annotations

_SURNAMES_TEXT = """
佐藤 鈴木 高橋 田中 伊藤 渡辺 渡邊 渡邉 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上
木村 斎藤 斉藤 齋藤 清水 山崎 阿部 池田 橋本 山下 石川 中島 前田 藤田 小川 後藤 岡田 長谷川
村上 近藤 石井 坂本 遠藤 青木 藤井 西村 福田 太田 三浦 藤原 岡本 松田 中川 中野 原田 小野
田村 竹内 金子 和田 中山 石田 上田 森田 柴田 酒井 工藤 横山 宮崎 宮本 内田 高木 安藤 谷口
大野 丸山 今井 高田 藤本 武田 村田 上野 杉山 増田 平野 菅原 大塚 千葉 久保 松井 小島 岩崎
桜井 野口 松尾 野村 木下 菊地 菊池 佐野 大西 杉本 新井 浜田 市川 水野 小松 島田 古川 熊谷
荒木 中西 川口 矢野 本田 小山 飯田 吉川 久保田 服部 浅野 東野 辻本 田口 川崎 大久保 松下 平田
川上 関口 樋口 松岡 永井
"""
SURNAMES = frozenset(_SURNAMES_TEXT.split())
_GIVEN_NAMES_TEXT = """
太郎 一郎 次郎 三郎 健一 健太 浩 浩一 誠 隆 茂 清 勇 実 正 博 豊 進 弘 勝 和夫 和男 幸雄
正雄 義雄 昭 哲也 直樹 大輔 健 翔太 拓也 達也 蓮 陽斗 湊 大翔 悠真 花子 和子 幸子 節子 恵子
洋子 京子 文子 久美子 由美子 裕子 智子 直美 明美 真由美 美穂 陽子 恵 美咲 愛 彩 さくら 葵
結衣 陽菜 凛 優子 順子 千代子 美智子 洋 徹 翼 健二 秀樹 英樹 雄一
"""
GIVEN_NAMES = frozenset(_GIVEN_NAMES_TEXT.split())
_PREFECTURES_TEXT = """
北海道 青森県 岩手県 宮城県 秋田県 山形県 福島県 茨城県 栃木県 群馬県 埼玉県 千葉県 東京都
神奈川県 新潟県 富山県 石川県 福井県 山梨県 長野県 岐阜県 静岡県 愛知県 三重県 滋賀県 京都府
大阪府 兵庫県 奈良県 和歌山県 鳥取県 島根県 岡山県 広島県 山口県 徳島県 香川県 愛媛県 高知県
福岡県 佐賀県 長崎県 熊本県 大分県 宮崎県 鹿児島県 沖縄県
"""
PREFECTURES = tuple(_PREFECTURES_TEXT.split())
