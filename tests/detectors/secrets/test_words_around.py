"""Values that only the words around them give away: those that are secrets, and those that are none."""

import pytest

from detectors.secrets import Secrets
from detectors.text import Text

SECRETS = Secrets()

# One text a line; `\\n` is a line break in it.
NONE = r"""
密码学RSA2048与SM2的区别
密码管理器1Password和Bitwarden哪个好
游戏暗号Boss99是谁
press pass NYC2026 please
<div class="g-recaptcha" data-sitekey="6LcTF8yXJU81YI1OPQc8GQ91Fj_cvbOjzwtjNu0e"></div>
PASSWORD_HASHERS = ["Argon2PasswordHasher"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", "x.hashers.Argon2PasswordHasher"]
POSTGRES_PASSWORD: postgres123
MYSQL_ROOT_PASSWORD: root123
  environment:\n    - MYSQL_PASSWORD=example123
spring.datasource.password=root123456
password = "password123"
password: admin123
DB_PASSWORD=secret123
const user = { username: "alice", password: "test1234" };
密码：Passw0rd!
默认密码是admin123
密码锁用4位还是6位好
口令红包怎么发
密码本GB2312和UTF8有什么不同
密码重置邮件模板2024版
支付密码6位数忘了怎么办
密钥长度AES256和AES128哪个安全
私钥格式PKCS8和PKCS1有什么区别
令牌桶TokenBucket2算法怎么实现
令牌环网IEEE802.5是什么
token数量GPT4和Claude3谁多
密钥交换ECDH与X25519的原理
暗号Tactics2025什么意思
WiFi密码WPA2和WPA3区别
密码强度zxcvbn4怎么用
凭证式国债2024年利率
密码箱20寸和24寸哪个好
密码破译Enigma1940的故事
口令攻击John1.9怎么用
授权码模式OAuth2.0和PKCE
season pass 2025Q3 price
boarding pass BA2490 seat
The pass rate2024 rose
pass@k2 and pass@10 metric
the secret S3Bucket2 stays
What does token GPT2Tokenizer do?
tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased2")
key = "user:1234:session5"
redis key user_profile_v2_8861
primary key order_id_2024
keyboard K380Pro2 review
the key to B2B2C growth
passport photo 35x45mm
api key rotation every 90d
How do I reset my password in Windows11?
password reset for Office365 users
The password policy requires Win2019Server
password manager KeePass2 or LastPass4?
Is the password hash SHA256 or MD5?
password hashing with Argon2id vs bcrypt12
token limit 128k128 context
secret santa Gift2024 ideas
The secret ingredient B12vitamin
security token ERC20 vs ERC721
access token JWT vs opaque OAuth2
hidden input name="csrf_token" value="aGk3Jd92kLmPq0Zx7Vb1Nw"
<meta name="csrf-token" content="aGk3Jd92kLmPq0Zx7Vb1NwQe">
<script integrity="sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC"></script>
"sitekey": "6LeIxAcTAAAAAJcZVRqyHh71UMIEGNQEzhqu4Xk2"
stripe.publishable_key = "pk_live_51HxYzK2eZvKYlo2C0aBcDeFg"
NEXT_PUBLIC_SENTRY_KEY=public
passwordField = "#login-pw2"
password_regex = "^(?=.*[A-Z])(?=.*\\d).{8,}$"
PASSWORD_MIN_LENGTH = 12
password: z.string().min(8)
token = os.environ["HF_TOKEN2"]
self.token = token_v2
public_key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEq"
SECRET_KEY_BASE = generate_key_64()
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator2"}]
ACCESS_TOKEN_LIFETIME = timedelta(minutes=5)
keyword = "python3.12"
KEY_COLUMN_USAGE2
key: ArrowLeft2
key="item-3f2b"
hotkey Ctrl+Shift+F12
forgot my password for Steam2024 account
password spray T1110.003 in MITRE
secret = b"secret"
JWT_SECRET=supersecret123
JWT_SECRET=your-256-bit-secret
input type="password" id="pwd1" autocomplete="new-password"
passwd -l user01
tokens_per_second=1280k
max_new_tokens=2048abc
"total_tokens": "1m2048"
const ACCESS_TOKEN_KEY = "accessToken2";
localStorage.getItem("authToken2")
localStorage.setItem("refresh_token_v2", data.refresh)
i18n key: common.buttons.submit2
"key": "5d41402abc4b2a76b9719d911017c592", "size": 12
"Key": "photos/2024/07/IMG_20240712_183022.jpg"
密码箱TSA007锁怎么重置
支付宝密码2步验证怎么开
口令卡U盾2代有什么区别
银行令牌Token2和短信验证码哪个安全
我想学密码学，先看AES还是RSA4096
密码朋克Bitcoin2009的历史
密码锁K9型号值得买吗
摩尔斯密码SOS911是什么意思
通关密语XY8是哪部电影
密钥分发QKD2023进展
私钥公钥PEM8格式转换
免费凭证模板Excel2016下载
凭证号V2024001怎么查
授权码Auth2流程讲解一下
令牌桶限流100qps怎么配
What's a good secret Santa gift under 25usd?
My gym pass Q32024 expired, how do I renew?
ski pass VT2025 discount
Secret Garden2 movie review
token ring 802.5x history
Which key signature has 4sharps?
the Florida Keys US1 road trip
key takeaways from Q3FY24 report
Password complexity NIST800-63B guidance
What is a salted password SHA512crypt hash?
how to use bcrypt2 for password storing
BCryptPasswordEncoder passwordEncoder = new BCryptPasswordEncoder(12);
password_hasher = PBKDF2PasswordHasher()
auth:\n  password_encoder: "DelegatingPasswordEncoder5"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend"]
PASSWORD_RESET_TIMEOUT = 259200
  MONGO_INITDB_ROOT_PASSWORD: example
  MONGO_INITDB_ROOT_PASSWORD: mongo123
docker run -e POSTGRES_PASSWORD=mysecretpassword -d postgres
docker run -e MYSQL_ROOT_PASSWORD=my-secret-pw -d mysql
REDIS_PASSWORD=redis123
MINIO_ROOT_PASSWORD=minioadmin
RABBITMQ_DEFAULT_PASS=guest
CREATE USER 'app'@'localhost' IDENTIFIED BY 'password';
CREATE USER app WITH PASSWORD 'secret123';
mysql -u root -ppassword
mysql -u root -p mydatabase2
docker run -d -p 8080:80 nginx
zip -P password a.zip f
curl -u username:password https://api.x.io
curl -u admin:admin123 http://localhost
const password = "P@ssw0rd123";
user = User(name="bob", password="pass1234")
data-turnstile-sitekey="0x4AAAAAAADnPIDROrmt1Wwj"
<input name="authenticity_token" value="Xk3Jd92kLmPq0Zx7Vb1NwQ">
key: "Enter2"
{"key": "ArrowUp", "code": "ArrowUp38"}
{"id": 7, "key": "PROJ-1234", "summary": "x"}
{"key":"user_1234567890","value":"x"}
map key abc123def456
S3 key: backups/2024/db-01-20240101.sql.gz
foreign key fk_orders_customer_id_2
API key authentication vs OAuth2 which is better
bearer token JWT RS256 explained
access token expires in 3600s
setPassword("newPassword1")
assertEquals("Invalid password1", msg)
The passphrase is correct-horse
passport-local2 strategy
public key pinning sha256/AAAA1111BBBB2222CCCC3333
密码子UGA3在线粒体里编码什么
密码机型号SJJ1012怎么选
口令红包888888怎么抢
密码是不是Base64编码的
密码是用SHA256存的吗
密码是什么意思，AES和DES都是密码吗
密码：见附件Readme2
密码输入框placeholder2怎么改
默认口令为空的设备CVE-2023-1389
授权码和OAuth2有什么关系
请问令牌JWT和Session2选哪个
摩斯密码88是什么意思
达芬奇密码2003年出版
密码强度要求：至少8位，包含大写字母A-Z和数字0-9
验证码1234是什么意思
暗号：天王盖地虎2021版
我的通行证NYC2026丢了
What is pass1 and pass2 in a compiler?
bus pass 30day2 price
The secret of S3Select2 performance
Keynote2023 slides
token: [PAD2]
Which pass rusher had 12sacks
All tests pass v1.2.3 now
Password123 is the worst password
use password "correct horse battery staple"?
const PASSWORD_PATTERN = /^(?=.*[A-Z]).{8,}$/
password: Joi.string().min(8).required()
password: faker.internet.password({ length: 12 })
password = hashlib.sha256(b"abc").hexdigest()
<input id="password2" type="password">
@NotBlank String password1;
passwordLabel: "Passwort2 eingeben"
'password' => 'required|min:8|confirmed'
DB_PASSWORD=
DB_PASSWORD=${DB_PASSWORD:-postgres}
"password": "string123"
password: 'password1!'
pwd: /home/user1/src
pwd=/var/www2
export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
-e REDIS_PASSWORD=foobared
requirepass foobared
api_key: sk-1234567890abcdef
token = tokenizer.encode("text2")
public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
primaryKey: "orderItemId2"
"key": "Ctrl+Shift+K2"
cacheKey = `user:${id}:v2`
keycode KEY_F12
aria-keyshortcuts="Alt+Shift+P2"
passive_skill: "Fireball9"
mysql -u root -p
mysql -uroot -proot
docker run -p 127.0.0.1:5432:5432 postgres
kubectl create secret generic db --from-literal=password=changeme
IDENTIFIED BY 'your_password'
CREATE USER 'app' IDENTIFIED BY 'MyNewPass1!';
"""
# A text, a bar, and the value in it.
REAL = r"""
{"username":"li","key":"2dc4de648c6b480f08ed18d17266ede9"}|2dc4de648c6b480f08ed18d17266ede9
{"user":"ops","host":"10.2.3.4","key":"b1946ac92492d2347c6235b4d2611184"}|b1946ac92492d2347c6235b4d2611184
{"key": "9f86d081884c7d659a2feaa0c55ad015", "username": "wang"}|9f86d081884c7d659a2feaa0c55ad015
{"appid": "wx12345678", "key": "8934e7d15453e97507ef794cf7b0519d"}|8934e7d15453e97507ef794cf7b0519d
ALTER USER app IDENTIFIED BY "Tq7pLx29vR";|Tq7pLx29vR
CREATE USER 'app'@'%' IDENTIFIED BY 'Tq7pLx29vR';|Tq7pLx29vR
CREATE USER app IDENTIFIED WITH caching_sha2_password BY 'Tq7pLx29vR';|Tq7pLx29vR
GRANT ALL ON *.* TO 'x'@'%' IDENTIFIED BY 'Tq7pLx29vR'|Tq7pLx29vR
CREATE ROLE app WITH LOGIN PASSWORD 'Tq7pLx29vR';|Tq7pLx29vR
ALTER ROLE app WITH ENCRYPTED PASSWORD 'Tq7pLx29vR';|Tq7pLx29vR
CREATE LOGIN app WITH PASSWORD = 'Tq7pLx29vR';|Tq7pLx29vR
SET PASSWORD FOR 'root'@'localhost' = PASSWORD('Tq7pLx29vR');|Tq7pLx29vR
alter user scott identified by tigerX92q;|tigerX92q
CREATE DATABASE LINK l CONNECT TO u IDENTIFIED BY Zx9mQ2pw USING 'db'|Zx9mQ2pw
mysql -u root -p'Zk29vmQx88'|Zk29vmQx88
mysql -uroot -pZk29vmQx88 -h db1 shop|Zk29vmQx88
mysql -h db1 -u root -p"Zk29vmQx88" shop < dump.sql|Zk29vmQx88
mysqldump -u root --password=Zk29vmQx88 shop|Zk29vmQx88
mysqladmin -u root -p'Zk29vmQx88' status|Zk29vmQx88
mariadb -u root -p'Zk29vmQx88'|Zk29vmQx88
sshpass -p 'Zk29vmQx88' ssh root@10.0.0.4|Zk29vmQx88
redis-cli -h r1 -a 'Zk29vmQx88' ping|Zk29vmQx88
mongosh -u admin -p 'Zk29vmQx88' --authenticationDatabase admin|Zk29vmQx88
mongo admin -u root -p Zk29vmQx88|Zk29vmQx88
docker login -u bob -p Zk29vmQx88 reg.io|Zk29vmQx88
docker login --username bob --password 'Zk29vmQx88' reg.io|Zk29vmQx88
sqlcmd -S db1 -U sa -P 'Zk29vmQx88'|Zk29vmQx88
sqlplus system/Zk29vmQx88@orcl|Zk29vmQx88
ldapsearch -x -D cn=admin,dc=x -w 'Zk29vmQx88' -b dc=x|Zk29vmQx88
htpasswd -b .htpasswd bob Zk29vmQx88|Zk29vmQx88
curl -u 'bob:Zk29vmQx88' https://x.io|Zk29vmQx88
curl -u bob:'Zk29vmQx88' https://x.io|Zk29vmQx88
curl --user "bob:Zk29vmQx88" https://x.io|Zk29vmQx88
openssl enc -aes-256-cbc -pass pass:Zk29vmQx88|Zk29vmQx88
openssl rsa -in k.pem -passin pass:Zk29vmQx88|Zk29vmQx88
zip -P Zk29vmQx88 a.zip f|Zk29vmQx88
7z a -pZk29vmQx88 a.7z f|Zk29vmQx88
unzip -P 'Zk29vmQx88' a.zip|Zk29vmQx88
PGPASSWORD='Zk29vmQx88' psql -U app|Zk29vmQx88
export MYSQL_PWD=Zk29vmQx88|Zk29vmQx88
echo 'Zk29vmQx88' | sudo -S apt update|Zk29vmQx88
net use \\srv\share Zk29vmQx88 /user:bob|Zk29vmQx88
smbclient //srv/share -U bob%Zk29vmQx88|Zk29vmQx88
kubectl create secret generic db --from-literal=password='Zk29vmQx88'|Zk29vmQx88
az login -u bob@x.io -p 'Zk29vmQx88'|Zk29vmQx88
echo "root:Zk29vmQx88" | chpasswd|Zk29vmQx88
lftp -u bob,Zk29vmQx88 ftp.x.io|Zk29vmQx88
mount -t cifs //s/x /mnt -o username=bob,password=Zk29vmQx88|Zk29vmQx88
password: my-secret-9fKq27LmXz|my-secret-9fKq27LmXz
api_key = "my-api-4f9c8a7b2d1e6035"|my-api-4f9c8a7b2d1e6035
token: "new-token-8f3a9d27c41be560"|new-token-8f3a9d27c41be560
API_KEY=sample_7Hq29ZpLx04VbnT61|sample_7Hq29ZpLx04VbnT61
secret_key = "todo-app-prod-9f8K27aLx03mQz"|todo-app-prod-9f8K27aLx03mQz
api_key: "yourshop-8fK29dLq03ZmXt71"|yourshop-8fK29dLq03ZmXt71
ACCESS_KEY=xxK9fLq27ZmXt71Pw03BvNexampleco|xxK9fLq27ZmXt71Pw03BvNexampleco
auth_token: "dummyco_9xK27fLq03ZmXt71P"|dummyco_9xK27fLq03ZmXt71P
password = "$Tq7pLx29vR!"|$Tq7pLx29vR!
password = "%Tq7pLx29vR"|%Tq7pLx29vR
password = "<Tq7pLx29vR"|<Tq7pLx29vR
password=Tq7pLx.Zv9R.k2w|Tq7pLx.Zv9R.k2w
密码：Tq7pLx29vR|Tq7pLx29vR
密码是Tq7pLx29vR|Tq7pLx29vR
数据库密码 Tq7pLx29vR|Tq7pLx29vR
我的密码是Abc123456|Abc123456
服务器口令为 Tq7pLx29vR，请保密|Tq7pLx29vR
WiFi密码：liming1988|liming1988
the password is Tq7pLx29vR|Tq7pLx29vR
my password: Sunny2Day!|Sunny2Day!
pwd=Tq7pLx29vR;|Tq7pLx29vR
用户名root 密码Tq7pLx29vR|Tq7pLx29vR
账号admin，密码Zk29vm@88|Zk29vm@88
client_secret: 8934e7d15453e97507ef794cf7b0519d|8934e7d15453e97507ef794cf7b0519d
{"access_key":"8934e7d15453e97507ef794cf7b0519d"}|8934e7d15453e97507ef794cf7b0519d
{"account":"ops@corp.cn","key":"7c6a180b36896a0a8c02787eeafb0e4c"}|7c6a180b36896a0a8c02787eeafb0e4c
{"endpoint": "https://x.cn/v1", "key": "c21f969b5f03d33d43e04f8f136e7682"}|c21f969b5f03d33d43e04f8f136e7682
{"login": "bob", "secret": "e99a18c428cb38d5f260853678922e03"}|e99a18c428cb38d5f260853678922e03
{"user": "li", "pass": "Kd8#mPz2qv"}|Kd8#mPz2qv
{"config": {"host": "db", "pwd": "Kd8mPz2qvX"}}|Kd8mPz2qvX
"{\"username\":\"li\",\"key\":\"2dc4de648c6b480f08ed18d17266ede9\"}"|2dc4de648c6b480f08ed18d17266ede9
ALTER LOGIN sa WITH PASSWORD = N'Kd8mPz2qvX'|Kd8mPz2qvX
ALTER USER postgres PASSWORD 'Kd8mPz2qvX';|Kd8mPz2qvX
create user li identified by "Kd8mPz2qvX" default tablespace users|Kd8mPz2qvX
UPDATE mysql.user SET authentication_string=PASSWORD('Kd8mPz2qvX') WHERE User='root'|Kd8mPz2qvX
mysql --host=db --user=app --password='Kd8mPz2qvX'|Kd8mPz2qvX
mysqldump -h 10.2.3.4 -u backup -p'Kd8mPz2qvX' shop|Kd8mPz2qvX
psql "host=db user=app password=Kd8mPz2qvX"|Kd8mPz2qvX
mongodump -u root -p Kd8mPz2qvX --db shop|Kd8mPz2qvX
podman login -u li -p Kd8mPz2qvX quay.io|Kd8mPz2qvX
wget --user=li --password=Kd8mPz2qvX http://x|Kd8mPz2qvX
curl -X GET -u elastic:Kd8mPz2qvX https://es:9200|Kd8mPz2qvX
clickhouse-client --user default --password Kd8mPz2qvX|Kd8mPz2qvX
svn co http://x --username li --password Kd8mPz2qvX|Kd8mPz2qvX
ansible-playbook -e "ansible_become_pass=Kd8mPz2qvX" s.yml|Kd8mPz2qvX
helm install x --set auth.password=Kd8mPz2qvX|Kd8mPz2qvX
sqlcmd -S . -U sa -P Kd8mPz2qvX -Q "select 1"|Kd8mPz2qvX
access_key: my-prod-AKc92mLq04vRt7|my-prod-AKc92mLq04vRt7
secret: "the-secret-Kd8mPz2qvX71"|the-secret-Kd8mPz2qvX71
api_token = "test-7Kd8mPz2qvX71aB39z"|test-7Kd8mPz2qvX71aB39z
api_key="fake-shop-Kd8mPz2qvX71aB39z"|fake-shop-Kd8mPz2qvX71aB39z
服务器root密码：Kd8mPz2qvX|Kd8mPz2qvX
新密码设为Kd8mPz2qvX，记得改|Kd8mPz2qvX
后台口令Kd8mPz2qvX别外传|Kd8mPz2qvX
数据库账号app 密码Kd8@mPz|Kd8@mPz
wifi密码是zhang1990ok|zhang1990ok
密钥：8f14e45fceea167a5a36dedd4bea2543|8f14e45fceea167a5a36dedd4bea2543
password: Admin2024!|Admin2024!
密码是S12345678|S12345678
root密码：liwei0815|liwei0815
pwd: Tiger#2023|Tiger#2023
DB_PASS=zhang_1988|zhang_1988
the passcode is Qwer!234|Qwer!234
口令改成Winter@88了|Winter@88
{"name":"svc","auth":{"key":"4f8c2e1a9b7d6053c2f1e8a7b9d40612"}}|4f8c2e1a9b7d6053c2f1e8a7b9d40612
{"userName": "admin", "passWord": "Vt6#kQ91"}|Vt6#kQ91
{'user': 'li', 'key': '4f8c2e1a9b7d6053c2f1e8a7b9d40612'}|4f8c2e1a9b7d6053c2f1e8a7b9d40612
{"appKey":"x1","appSecret":"4f8c2e1a9b7d6053c2f1e8a7b9d40612"}|4f8c2e1a9b7d6053c2f1e8a7b9d40612
{"username":"li","password":"Vt6kQ91m"}|Vt6kQ91m
{"email":"a@corp.cn","key":"4f8c2e1a9b7d6053c2f1e8a7b9d40612"}|4f8c2e1a9b7d6053c2f1e8a7b9d40612
{"user_id": 12, "access_key": "4f8c2e1a9b7d6053c2f1e8a7b9d40612"}|4f8c2e1a9b7d6053c2f1e8a7b9d40612
<user name="li" key="4f8c2e1a9b7d6053c2f1e8a7b9d40612"/>|4f8c2e1a9b7d6053c2f1e8a7b9d40612
CREATE USER li PASSWORD 'Vt6kQ91m'|Vt6kQ91m
ALTER USER li WITH PASSWORD "Vt6kQ91m";|Vt6kQ91m
ALTER USER 'li'@'%' IDENTIFIED WITH mysql_native_password BY 'Vt6kQ91m';|Vt6kQ91m
alter user sys identified by Vt6kQ91m;|Vt6kQ91m
CREATE USER li IDENTIFIED WITH plaintext_password BY 'Vt6kQ91m'|Vt6kQ91m
EXEC sp_addlogin 'li', 'Vt6kQ91m'|Vt6kQ91m
CREATE SERVER s OPTIONS (USER 'li', PASSWORD 'Vt6kQ91m');|Vt6kQ91m
CHANGE MASTER TO MASTER_USER='r', MASTER_PASSWORD='Vt6kQ91m';|Vt6kQ91m
mysql -hdb -uli -p"Vt6kQ91m"|Vt6kQ91m
mysql --user=li -p'Vt6k Q91m' db|Vt6k Q91m
sudo mysql -u li -pVt6kQ91m -e "show tables"|Vt6kQ91m
`mysql -u root -p'Vt6kQ91m'`|Vt6kQ91m
sshpass -pVt6kQ91m scp a b:|Vt6kQ91m
ftp://li:Vt6kQ91m@host/x|Vt6kQ91m
mongodb+srv://li:Vt6kQ91m@c.mongodb.net|Vt6kQ91m
curl -H "X-Api-Key: 4f8c2e1a9b7d6053c2f1e8a7b9d40612" https://x|4f8c2e1a9b7d6053c2f1e8a7b9d40612
curl https://x/?key=4f8c2e1a9b7d6053c2f1e8a7b9d40612|4f8c2e1a9b7d6053c2f1e8a7b9d40612
http POST x.io Authorization:"Token 4f8c2e1a9b7d6053c2f1e8a7b9d40612"|4f8c2e1a9b7d6053c2f1e8a7b9d40612
wget --user li --password 'Vt6kQ91m' http://x|Vt6kQ91m
svn --username li --password Vt6kQ91m up|Vt6kQ91m
net user li Vt6kQ91m /add|Vt6kQ91m
xfreerdp /u:li /p:Vt6kQ91m /v:host|Vt6kQ91m
rdesktop -u li -p Vt6kQ91m host|Vt6kQ91m
plink -ssh li@host -pw Vt6kQ91m|Vt6kQ91m
pscp -pw Vt6kQ91m f li@h:|Vt6kQ91m
winscp /command "open sftp://li:Vt6kQ91m@h"|Vt6kQ91m
psexec \\h -u li -p Vt6kQ91m cmd|Vt6kQ91m
ipmitool -H h -U li -P Vt6kQ91m power|Vt6kQ91m
etcdctl --user li:Vt6kQ91m get x|Vt6kQ91m
influx -username li -password Vt6kQ91m|Vt6kQ91m
rabbitmqctl add_user li Vt6kQ91m|Vt6kQ91m
rabbitmqctl change_password li Vt6kQ91m|Vt6kQ91m
gpg --passphrase Vt6kQ91m -c f|Vt6kQ91m
openssl pkcs12 -export -passout pass:Vt6kQ91m|Vt6kQ91m
keytool -storepass Vt6kQ91m -keystore k|Vt6kQ91m
keytool -keypass Vt6kQ91m|Vt6kQ91m
requirepass Vt6kQ91m|Vt6kQ91m
redis-cli AUTH Vt6kQ91m|Vt6kQ91m
用户名：admin 密码：Vt6kQ91m|Vt6kQ91m
账号 li / 密码 Vt6kQ91m|Vt6kQ91m
密码（Vt6kQ91m）|Vt6kQ91m
初始密码是 "Vt6kQ91m"|Vt6kQ91m
密码：`Vt6kQ91m`|Vt6kQ91m
VPN的密钥为：Vt6kQ91mZz|Vt6kQ91mZz
"""


def values(text: str) -> list[str]:
    return [text[each.start : each.end] for each in SECRETS.find(Text(text))]


@pytest.mark.parametrize("line", NONE.strip().splitlines())
def test_prose_questions_and_teaching_code_hold_none(line: str) -> None:
    assert values(line.replace("\\n", "\n")) == []


@pytest.mark.parametrize("line", REAL.strip().splitlines())
def test_json_sql_command_lines_and_sentences(line: str) -> None:
    text, _, value = line.rpartition("|")
    assert values(text) == [value]
