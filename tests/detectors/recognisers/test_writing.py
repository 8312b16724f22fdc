"""Values in unusual writing, and numbers that look like values and are none."""

import pytest

from detectors.guard import Guard
from detectors.policy import Policy
from detectors.recognisers.engine import Recognisers

GUARD = Guard(Policy(), [(Recognisers(), "closed")])

# A text, a bar, and what is found in it: a category and a value, divided by `;`. `\\n` is a line break.
LINES = r"""
信用卡卡号 4539578763621485|BANK_CARD 4539578763621485
信用卡卡号：4539 5787 6362 1485|BANK_CARD 4539 5787 6362 1485
卡号4539578763621485有效期12/27|BANK_CARD 4539578763621485
（139）1724-6058|PHONE （139）1724-6058
(139)1724-6058|PHONE (139)1724-6058
手机（139）17246058|PHONE （139）17246058
电话：（010）6205-7712|PHONE （010）6205-7712
电话【010】62057712|PHONE 【010】62057712
[139]1724-6058|PHONE [139]1724-6058
139（1724）6058|PHONE 139（1724）6058
139-1724-6058|PHONE 139-1724-6058
１３９１７２４６０５８|PHONE １３９１７２４６０５８
（+86）13917246058|PHONE （+86）13917246058
(+86 139) 1724 6058|PHONE (+86 139) 1724 6058
電話 03-6205-7712|PHONE 03-6205-7712
電話：03-6205-7712|PHONE 03-6205-7712
電話番号 03-6205-7712|PHONE 03-6205-7712
電話 (02) 2345-6789|PHONE (02) 2345-6789
電話 2345 6789|PHONE 2345 6789
携帯電話 090-1234-5678|PHONE 090-1234-5678
手機 0912-345-678|PHONE 0912-345-678
聯絡電話：0912345678|PHONE 0912345678
전화 02-312-3456|PHONE 02-312-3456
传真（021）5888-1234|PHONE （021）5888-1234
Tel: (03) 6205 7712|PHONE (03) 6205 7712
Tel. 03-6205-7712|PHONE 03-6205-7712
電話 +81-3-6205-7712|PHONE +81-3-6205-7712
Телефон 8 (495) 123-45-67|PHONE 8 (495) 123-45-67
Telefon: 030 12345678|PHONE 030 12345678
Teléfono 91 123 45 67|PHONE 91 123 45 67
Phone: [415] 555-2671|PHONE [415] 555-2671
Part 123-45-6789 is obsolete|
part no. 123-45-6789|
SKU 987-65-4321 in stock|
Model 219-09-9991 pump|
Order number 123-45-6789 shipped|
Invoice 523-45-6789 is paid|
SSN 523-45-6789|ID_CARD 523-45-6789
My social security number is 523-45-6789.|ID_CARD 523-45-6789
he gave 523-45-6789 as his social|ID_CARD 523-45-6789
employee John Roe, 523-45-6789, hired 2020|ID_CARD 523-45-6789
passport.js strategy P1234567|
passport-local P1234567 ticket|
passport: E12345678|PASSPORT E12345678
护照号 E12345678|PASSPORT E12345678
my passport number is P1234567|PASSPORT P1234567
import passport from "passport"; // bug B1234567|
app.use(passport.initialize()); // see JIRA C7654321|
见 10.1.2.3 节|
见第10.1.2.3节|
参见10.1.2.3章|
如 10.1.2.3 小节所述|
详见附录10.1.2.3|
see 10.1.2.3 for details in the section list|
as described in §10.1.2.3|
See section 10.1.2.3|
clause 10.4.2.1 of the contract|
Table 10.1.2.3 shows|
升级到 10.1.2.3 版本|
version: 10.1.2.3|
v10.2.3.4|
chrome/120.0.6099.109|
OpenSSL 10.1.2.3 released|
服务器 10.1.2.3 连不上|IP_ADDRESS 10.1.2.3
ssh root@10.1.2.3|IP_ADDRESS 10.1.2.3
ping 10.1.2.3|IP_ADDRESS 10.1.2.3
host 192.168.3.17 is down|IP_ADDRESS 192.168.3.17
10.1.2.3:8080|IP_ADDRESS 10.1.2.3
节点 10.1.2.3 宕机|IP_ADDRESS 10.1.2.3
邮箱 carol.k@corp-a.cn conv|EMAIL carol.k@corp-a.cn
mail carol.k@corp-a.cn and wait|EMAIL carol.k@corp-a.cn
邮箱carol.k@corp-a.cn.|EMAIL carol.k@corp-a.cn
carol.k@corp-a.cn，谢谢|EMAIL carol.k@corp-a.cn
write to carol.k@corp-a.cn. Thanks|EMAIL carol.k@corp-a.cn
carol.k@corp-a.cn\\nnext|EMAIL carol.k@corp-a.cn
["4716283950172634","4929381726354819","5204817263549182"]|
{"ids": [4539578763621485, 4716283950172634, 4485275742308327]}|
[6222021234567890128, 6212261234567890123, 6217001234567890125]|
["91350100M000100Y43","9135010aB3000100X1"]|
"id":"4539578763621485"|
"trace_id": "6011000990139424"|
银行卡号：6222021234567890123|BANK_CARD 6222021234567890123
储蓄卡 6217001234567890125 余额|BANK_CARD 6217001234567890125
card number: 4716 2839 5017 2635|BANK_CARD 4716 2839 5017 2635
credit card no. 5204817263549183|BANK_CARD 5204817263549183
{"card": "4539578763621486", "cvv": "123"}|BANK_CARD 4539578763621486
{"cards": ["4539578763621486", "4716283950172634"]}|BANK_CARD 4539578763621486;BANK_CARD 4716283950172634
会员卡号 88001234567|
（０２１）５８８８－１２３４|PHONE （０２１）５８８８－１２３４
(86)139-1724-6058|PHONE (86)139-1724-6058
客服 (400) 820-8820|PHONE (400) 820-8820
電話：(852) 2345 6789|PHONE (852) 2345 6789
電話 852-2345-6789|PHONE 852-2345-6789
電話 886-2-2345-6789|PHONE 886-2-2345-6789
電話：07-123-4567|PHONE 07-123-4567
連絡先 電話 06-6123-4567 まで|PHONE 06-6123-4567
携帯 080-1234-5678|PHONE 080-1234-5678
TEL：03-1234-5678|PHONE 03-1234-5678
Tel +49 (0)30 901820|PHONE +49 (0)30 901820
전화: 010-1234-5678|PHONE 010-1234-5678
тел. +7 495 123-45-67|PHONE +7 495 123-45-67
电话 2024-01-15 打过|
電話會議 2024-05-06 10:00|
手机号[138-1234-5678]|PHONE 138-1234-5678
Serial 123-45-6789|
serial number: 523-45-6789|
型号 123-45-6789|
零件号 123-45-6789 停产|
Case #523-45-6789 closed|
Stock code 523-45-6789|
SSN: 523 45 6789|ID_CARD 523 45 6789
employee ssn is 523-45-6789|ID_CARD 523-45-6789
见附录 10.1.2.3|
参照10.2.1.4节|
请看 10.3.2.1 小节|
第 10.1.2.3 条规定|
10.1.2.3 版本发布了|
upgrade to 10.4.2.11 today|
(see 10.1.2.3)|
RFC section 10.2.1.1 says|
数据库在10.1.2.3上|IP_ADDRESS 10.1.2.3
网关10.1.2.3节点故障|IP_ADDRESS 10.1.2.3
见 http://10.1.2.3/x|IP_ADDRESS 10.1.2.3
连接 10.1.2.3:3306 失败|IP_ADDRESS 10.1.2.3
see 172.16.254.12|IP_ADDRESS 172.16.254.12
邮箱：li.na@corp-b.com.cn please|EMAIL li.na@corp-b.com.cn
contact zoe@x-corp.io for|EMAIL zoe@x-corp.io
passport.authenticate('jwt'), ticket P7654321|
passport no. E12345678|PASSPORT E12345678
"passport": "E12345678"|PASSPORT E12345678
"passport_no": "E12345678"|PASSPORT E12345678
{"order_ids": ["6011000990139424", "6011123456789012", "6011987654321098"]}|
[3530111333300000, 3566002020360505, 3528123412341234]|
ids = ["91310000MA1FL0PXX2", "913100001322078101", "91310000MA1FL8888K"]|
统一社会信用代码 91310000132207810U|
{"timestamp_id": 4111111111111111}|
{"span_id": "5105105105105100"}|
{"customer_id": "4012888888881881"}|
联系人：李工〔138〕1234-5678|PHONE 〔138〕1234-5678
联系电话（0755）8321-4567|PHONE （0755）8321-4567
热线：４００－８２０－８８２０|PHONE ４００－８２０－８８２０
請致電 2345-6789|PHONE 2345-6789
電話號碼: 0912-345-678|PHONE 0912-345-678
手機：+852 9123 4567|PHONE +852 9123 4567
お電話は 03-1234-5678 まで|PHONE 03-1234-5678
電話 06-6123-4567（代表）|PHONE 06-6123-4567
电话 +44 20 7946 0018|PHONE +44 20 7946 0018
電話 1-800-555-0199|PHONE 1-800-555-0199
電話：886-912-345-678|PHONE 886-912-345-678
Part No: 123-45-6789|
P/N 123-45-6789|
drawing 123-45-6789 rev B|
assembly 523-45-6789 is out of stock|
物料 523-45-6789|
part number 523-45-6789, qty 4|
见第 10.1.2.3 款|
根据 10.1.2.3 节的规定|
10.1.2.3 节中提到|
（见 10.2.3.4）|
见图 10.1.2.3|
按 10.1.2.3 小节操作|
The requirement in 10.1.2.3 section|
升级包 10.1.2.3 下载|
固件版本10.1.2.3|
邮箱 carol.k@corp-a.cn convenient|EMAIL carol.k@corp-a.cn
{"uids":["4929381726354811","5204817263549183"]}|
{"nums":[4539578763621486,4539578763621487]}|
[{"id":4539578763621486},{"id":4716283950172634}]|
{"requestId":"4539578763621486"}|
{"orderNo":"4539578763621486"}|
{"codes":["91310000132207810X","91310000132207810U"]}|
ids: 4539578763621486, 4716283950172635, 5204817263549182|
{"comments": "4539578763621486"}|BANK_CARD 4539578763621486
{"amounts": ["4539578763621486"]}|BANK_CARD 4539578763621486
电话:(0086)13917246058|PHONE (0086)13917246058
"""


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_what_is_found_and_nothing_else(line: str) -> None:
    text, _, wanted = line.rpartition("|")
    text = text.replace("\\n", "\n")
    found = [f"{each.category} {text[each.start : each.end]}" for each in GUARD.find(text)]
    assert sorted(found) == sorted(filter(None, wanted.split(";")))
