"""The vocabulary of `asr.data.corpora.spoken.sentences` by role in a sentence, in base forms that are inflected there."""

PEOPLE = """
accountant actor adviser agent aide ally ambassador analyst architect artist assistant athlete author baker banker barber
boss broker brother builder butcher buyer captain carpenter cashier chairman champion chancellor chemist chief citizen
clerk client coach colleague collector colonel columnist commander commissioner composer consultant consumer cook
councillor counselor cousin critic customer dancer daughter dealer defendant delegate dentist deputy designer detective
developer diplomat director doctor driver economist editor educator employee employer engineer executive expert farmer
father fighter fisherman friend gardener general girl governor graduate grandmother guard guest guide historian hunter
husband immigrant insider inspector inventor investigator investor journalist judge justice landlord lawmaker lawyer
leader lender librarian lieutenant lobbyist maker manager manufacturer marshal mayor mechanic member merchant minister
mother musician neighbor novelist nurse observer officer official operator opponent organizer owner painter parent partner
passenger patient philosopher photographer physician pilot player poet politician president priest prince principal
prisoner producer professor programmer publisher pupil ranger reader refugee regulator reporter researcher resident
retailer retiree rider rival runner sailor salesman scholar scientist secretary senator sergeant servant shopkeeper singer
sister soldier son specialist speaker spokesman stranger strategist student supervisor supplier surgeon taxpayer teacher
technician teenager tenant thief tourist trader trainer treasurer trustee tutor uncle veteran victim visitor volunteer
voter waiter warden widow winner witness woman worker writer youngster
"""

GROUPS = """
academy agency airline army association bakery bank board brewery brokerage bureau business cabinet charity church clinic
club coalition college commission committee company conference congress consortium contractor cooperative corporation
council country court department division embassy factory family federation firm foundation fund government group hospital
house industry institute insurer jury laboratory league legislature library magazine majority market ministry minority
museum network newspaper opera orchestra panel parliament partnership party police producer province publisher railway
refinery regime region republic restaurant school senate society stadium station store studio subsidiary supermarket
syndicate team theater tribe tribunal union university utility village
"""

THINGS = """
account acre advertisement agreement airplane album alarm amendment ankle annuity antenna apartment apple application
appointment argument article asset award bag ballot banana barrel basket battery battle beach bean bed bell belt bicycle
bill blanket boat bomb bond bone book border bottle bowl box branch brick bridge brush bucket budget building bullet bus
button cabin cable cake calendar camera canal candle cannon car card carpet cart case castle catalog cell certificate
chain chair chapel charge chart check chest chicken chip cigarette circuit claim clock cloth cloud coat coin collar colony
column complaint component computer concert contract copy corner cottage counter coupon cradle crane crop crown cup
currency curtain cushion customs dam database deadline debt decade decision deck decree delivery deposit desert desk
device diamond diary dictionary dinner disk dividend document dollar door draft drawer dress drill drug drum dumpling
earthquake egg election engine envelope error essay estate exam exhibit export eye fabric facility fence ferry festival
field file film filter fire flag flight flood floor flower forecast forest fork formula fortress fossil fountain frame
freighter furnace gallery game garage garden gate gift glacier glass glove goal grain grant guitar hammer handle harbor
harvest hat hearing helicopter helmet highway hill hole home horse hotel import index injury island item jacket jewel
journal journey jungle kettle key kitchen knife ladder lake lamp lamp law lawsuit lease leg lemon lens letter license
lock lunch machine magnet map mask meal medal medicine melody memo message metal meter microphone mill mine mirror missile
mission mixture model monument motor mountain mouse muscle nail napkin needle nest newsletter note novel oak ocean offer
office olive onion orange orchard order oven package page paint palace paper parcel park passport path peach pen pencil
pension permit petition phone photograph piano picture pill pillow pipe plane planet plant plate platform pocket poem
policy poll pond port portrait poster potato pound prison prize product program project proposal protein puzzle quarry
quilt rabbit radar radio rail ranch receipt recipe record reef refund rent report reservoir resort review ribbon rifle
ring river road robot rocket roof room root rope rose route rug rule sail salad salary sample satellite scale scandal
scarf schedule screen script sculpture season seat seed sensor sentence share sheet shelf shell ship shirt shoe shop
shovel signal silver sink skirt sketch sleeve slogan snack sofa song soup spoon spring stamp statement statue steel stone
storm story stove strategy stream street string suit summit survey sweater switch sword symbol symptom table tablet tail
tank tape target tariff tax taxi telegram telephone telescope temple tent terminal test text thread throne ticket tile
timber tire title toast tobacco token tomato tool tooth tower toy track tractor trail train transmitter treasure treaty
tree trial trophy truck trunk tunnel turbine umbrella uniform vaccine valley valve van vase vault vegetable vehicle vein
vessel video violin virus visa vote wage wagon wall wallet warehouse watch waterfall weapon website wheel whistle window
wing winter wire yacht yard
"""

MATTERS = """
ability absence abuse access accident accuracy achievement action addiction advance advantage adventure advice affair
ambition anger anxiety approach approval attack attempt attention attitude authority balance barrier behavior belief
benefit bid blame boom breakthrough burden campaign capacity career cause caution challenge chance change chaos choice
collapse comfort commerce comment competition complexity compromise concept concern confidence conflict confusion
connection consent consequence construction consumption contest control controversy corruption cost courage crash credit
crime crisis criticism culture damage danger deal death debate decline defeat defense deficit delay demand democracy
departure desire development difference difficulty dignity diplomacy discipline discount discovery disease dispute
distance doubt drama dream drought economy education effect efficiency effort emergency emotion emphasis energy enthusiasm
environment equality escape ethics evidence evolution example exception excuse exercise expansion expense experience
explanation failure faith fame fate fear feature finance focus force fraud freedom friendship frustration function future
gain gap growth guilt habit happiness health heritage history honor hope humor hunger identity illness image impact
incentive incident income independence inflation influence initiative innovation inquiry instinct insurance integrity
intention interest intervention invasion investment issue justice knowledge labor language leadership legacy liberty limit
liquidity logic loss loyalty luck luxury management memory mercy merger method mistake momentum money mood morale motive
movement mystery nature need negligence notion objection obstacle opinion opportunity opposition option origin outcome
outlook outrage ownership panic passion patience pattern peace performance period philosophy plan pleasure plot pollution
popularity poverty power practice prejudice pressure prestige prevention pride principle priority privacy privilege
problem process profit progress promise promotion property prospect prosperity protection protest proof publicity punishment
purchase purpose quality quarrel question quota race reaction reality reason recession recovery reform regret regulation
relation relief religion reputation research resistance resource response responsibility restraint result revenge revenue
revolution reward risk rivalry role rumor sacrifice safety satisfaction science secret security shame shift shock shortage
silence situation skill slump sorrow source speculation speed spirit stability standard strength stress strike struggle
success suggestion support surplus surprise surrender suspicion sympathy tactic talent task taste technique technology
temptation tendency tension theme theory threat tragedy transition trend trouble trust truth turmoil uncertainty unity
value version victory view violence virtue vision volume wealth weakness welfare wisdom worry
"""

TRANSITIVE = """
abandon absorb accept accuse achieve acquire adapt address admire admit adopt advise affect afford amend announce answer
approve arrange assemble assess attack avoid back ban beat begin blame block borrow break bring build burn buy calculate
cancel carry catch celebrate change chase check choose claim clean close collect compare complete conceal condemn conduct
confirm consider construct contain continue control convert copy correct cover create criticize cut damage defeat defend
define delay deliver demand deny describe design destroy develop direct discover discuss dismiss display distribute divide
draft draw drop earn eat edit eliminate embrace emphasize encourage endorse enforce enjoy enter establish evaluate examine
exceed exchange expand explain exploit explore export face fear fight fill finance find finish fix follow forget forgive
freeze gather give grant guarantee guard handle hang harm hate hear help hide hire hit hold honor identify ignore
illustrate implement import impress improve increase inherit inspect inspire install insult interpret introduce invent
investigate invite join judge justify keep kick know launch lead lease leave lift like limit link load lock lose lower
maintain make manage mark measure meet mention miss modify monitor move need negotiate notice observe obtain offer open
oppose order organize overcome overlook owe own pack paint pay permit persuade pick plan plant play postpone praise
predict prefer prepare present preserve prevent print process produce promise promote propose protect prove provide
publish pull punish purchase pursue push question quit raise reach read rebuild receive recognize recommend record recover
reduce refuse regulate reject release remember remove repair repeat replace report represent rescue resist resolve
respect restore restrict reveal reverse review revise reward ride ring risk rob ruin sacrifice save schedule search secure
see seek seize select sell send serve settle shake shape share shift shoot show sign sink solve spend split spoil spread
steal stop store strengthen stress strike study suggest supply support surround survey suspect suspend sustain switch
take teach tear test threaten throw tolerate touch trace track trade transfer transform translate treat trust turn
understand undermine unveil use value visit violate want warn wash waste watch weaken wear weigh welcome win withdraw
worry wrap write
"""

INTRANSITIVE = """
agree appear apologize argue arrive bounce collapse complain compete cooperate crash cry dance decline depart die disappear
dominate double drift drop emerge escape evolve expire explode fade fail fall fluctuate flourish gather grow happen
hesitate improve laugh leap listen march matter merge migrate occur panic pause persist plunge proceed prosper protest
quarrel react rebound relax remain resign respond rest retire retreat return rise run scream shrink sing sleep slip smile
soar speak stabilize stand stay struggle stumble succeed suffer surge survive swim tremble vanish vote wait walk wander
weaken win wobble work worsen
"""

# Irregular verbs: base, past, participle.
IRREGULAR = """
beat beat beaten, begin began begun, break broke broken, bring brought brought, build built built, buy bought bought,
catch caught caught, choose chose chosen, cut cut cut, draw drew drawn, eat ate eaten, fall fell fallen, feel felt felt,
fight fought fought, find found found, forget forgot forgotten, forgive forgave forgiven, freeze froze frozen, give gave
given, grow grew grown, hang hung hung, hear heard heard, hide hid hidden, hit hit hit, hold held held, keep kept kept, know
knew known, lead led led, leap leaped leaped, leave left left, lose lost lost, make made made, meet met met, overcome
overcame overcome, pay paid paid, prove proved proven, quit quit quit, read read read, rebuild rebuilt rebuilt, ride rode
ridden, ring rang rung, rise rose risen, run ran run, see saw seen, seek sought sought, sell sold sold, send sent sent,
shake shook shaken, shoot shot shot, show showed shown, shrink shrank shrunk, sing sang sung, sink sank sunk, sleep slept
slept, speak spoke spoken, spend spent spent, split split split, spread spread spread, stand stood stood, steal stole
stolen, strike struck struck, swim swam swum, take took taken, teach taught taught, tear tore torn, throw threw thrown,
understand understood understood, wear wore worn, win won won, withdraw withdrew withdrawn, write wrote written
"""

IRREGULAR_PLURALS = """
woman women, fisherman fishermen, salesman salesmen, spokesman spokesmen, chairman chairmen, knife knives, shelf shelves,
thief thieves, tooth teeth, mouse mice, loaf loaves, piano pianos, radio radios, video videos, studio studios, memo memos
"""

ADJECTIVES = """
absolute abstract active acute adequate adverse aggressive alternative ambitious amazing ancient angry annual anonymous
anxious apparent appropriate artificial attractive automatic average awful awkward bad bankrupt basic beautiful better big
bitter black bleak blind blue bold brave brief bright brilliant broad broken brown brutal busy calm careful casual cautious
central certain cheap chief civil classic clean clear clever cold colorful comfortable commercial common compact competent
complete complex comprehensive confident conservative considerable constant conventional cool corporate costly crazy
creative critical crucial crude curious current cynical daily dangerous dark dear decent decisive deep defensive deliberate
delicate dense desperate different difficult diplomatic direct dirty distant domestic double dramatic dry due dull durable
eager early eastern easy economic effective efficient elaborate elderly elegant eligible emotional empty enormous entire
equal essential eventual evil exact excellent exclusive exotic expensive explicit external extra extraordinary extreme
fair faint familiar famous fancy fast favorable federal fierce final financial fine firm flat flexible foreign formal
fortunate fragile frequent fresh friendly front full fundamental funny generous gentle genuine giant global golden good
gradual grand grateful gray great green gross guilty handsome happy hard harsh healthy heavy helpful hidden high historic
holy honest hostile hot huge human humble humid hungry ideal identical illegal immediate imperial important impossible
impressive inadequate independent indirect industrial inevitable informal initial innocent innovative intense internal
international invisible jealous joint junior keen kind large late lazy leading legal legitimate liberal light likely
limited literary little lively local logical lonely long loose loud low loyal lucky mad magic main major marginal massive
mature maximum mechanical medical medieval mental mere middle mild military minimum minor mobile moderate modern modest
monetary moral multiple municipal musical mutual mysterious naked narrow national native natural nearby neat necessary
negative nervous neutral new noble noisy normal northern notable nuclear numerous objective obscure obvious occasional odd
official old open optimistic oral ordinary original outside painful pale parallel partial passive past patient peaceful
perfect permanent personal pink plain plastic pleasant polite political poor popular portable positive possible potential
powerful practical precious precise premature preliminary present primary primitive private prominent promising proper
proud prudent public pure quick quiet radical random rapid rare raw ready real realistic reasonable recent red regional
regular relative relevant reliable reluctant remarkable remote resident residential rich rigid rough round routine royal
rude rural sad safe scarce secondary secret secure select senior sensible sensitive separate serious severe shallow sharp
short shy sick significant silent silly similar simple single skeptical slight slim slow small smart smooth social soft
solar sole solid sophisticated southern spare special specific spectacular stable steady steep stiff straight strange
strategic strict striking strong stubborn stupid subtle successful sudden suitable superb superior sure surprising sweet
swift sympathetic technical temporary tender terrible thick thin thorough tight tiny tired top total tough toxic
traditional tragic tremendous tropical typical ugly unclear uncertain uneasy unexpected unfair unhappy uniform unique
unlikely unprecedented unusual upper urban urgent useful usual vague valid valuable various vast verbal vicious violent
visible visual vital vivid voluntary vulnerable warm weak wealthy western wet white whole wicked wide wild willing wise
wonderful wooden wrong yellow young
"""

ADVERBS = """
abruptly actively actually again aggressively almost already angrily apparently automatically badly barely bravely briefly
carefully certainly cheaply clearly closely commonly completely consistently constantly correctly currently deeply
deliberately directly dramatically eagerly early easily effectively efficiently entirely equally eventually exactly finally
firmly formally formerly frankly freely frequently fully generally gently genuinely gladly gradually greatly happily
hastily heavily honestly immediately inevitably initially instantly instead jointly largely lately legally literally
loudly mainly merely mostly narrowly naturally nearly neatly nervously normally obviously occasionally officially often
openly originally partly patiently peacefully perfectly permanently personally politely poorly possibly precisely
presumably previously primarily privately probably promptly properly proudly publicly purely quickly quietly rapidly
rarely readily really reasonably recently regularly reluctantly repeatedly reportedly roughly sadly safely scarcely
secretly seldom seriously severely sharply shortly significantly silently simply slightly slowly smoothly softly somehow
soon specifically steadily still strictly strongly substantially successfully suddenly surely surprisingly suspiciously
swiftly temporarily thoroughly together totally traditionally truly typically unexpectedly unfortunately usually
virtually widely wildly willingly wisely
"""

FIRST_NAMES = """
aaron adam alan albert alex alfred alice amanda amy andrea andrew angela anita ann anna anthony arthur barbara benjamin
bernard betty beverly bill bob bonnie brenda brian bruce carl carla carlos carol caroline catherine charles charlotte
cheryl chris christine claire clara craig cynthia dan daniel david deborah dennis diana diane donald donna doris dorothy
douglas edith edward edwin eileen eleanor elizabeth ellen emily emma eric ernest eva evelyn florence frances frank fred
gail gary george gerald gilbert gloria grace greg harold harry harvey heather helen henry herbert howard irene isabel jack
jacob james jane janet jason jean jeff jennifer jessica jim joan joe john jonathan joseph joyce juan judith julia julie
karen karl kate keith kelly kenneth kevin laura lawrence leo leon leonard linda lisa lloyd louis louise lucy maria marie
marilyn mark martha martin marvin mary matthew maurice melissa michael michelle mike miriam monica nancy natalie nicholas
nicole norman oliver oscar pamela patricia patrick paul peter philip rachel ralph raymond rebecca richard robert robin
roger ronald rosa roy russell ruth samuel sandra sarah scott sharon sheila simon sophie stanley stephen steven stuart susan
sylvia teresa theodore thomas timothy tina tom tony tracy ursula vanessa vera victor vincent virginia walter warren wayne
wendy william
"""

SURNAMES = """
abbott adams allen anderson andrews armstrong arnold atkins austin bailey baker baldwin ballard banks barnes barrett barton
bates baxter becker bell bennett benson berger bishop black blake bowen bowman boyd bradley brady brooks brown bryant burke
burns burton butler byrne caldwell cameron campbell carlson carpenter carr carroll carter chambers chandler chang chapman
chavez chen clark cohen coleman collins conrad cooper costa cox crawford cross cruz cunningham curtis dalton daniels
davidson davis dawson diaz dickson dixon donovan dougherty doyle drake duncan dunn edwards elliott ellis evans farrell
ferguson fernandez fischer fisher fleming fletcher flynn foster fowler franklin frazier freeman friedman fuller garcia
gardner garrett gibson gomez gonzales goodman gordon graham grant gray greene griffin gross gustafson hale hamilton hansen
hardy harper harrington harris hart hawkins hayes henderson hernandez higgins hoffman hogan holland holmes hopkins horton
houston hudson hughes hunt hunter ingram jackson jacobs jenkins jennings jensen johnson jordan kaplan katz keller kelly
kennedy kerr klein knight koch kramer lambert larson lawson lee leonard levine lewis lopez lowe lynch mackenzie malone
manning marsh marshall martinez mason maxwell mccarthy mcdonald mckenna mendez meyer miller mitchell monroe montgomery moore
morales morgan morris morrison mueller murphy murray nash nelson newman newton nguyen nichols nielsen nolan norris norton
obrien olson ortega osborne owens palmer parker parsons patterson pearson perez perkins peters peterson phillips pierce
porter powell pratt preston price quinn ramirez ramsey randall reed reese reynolds rhodes rice richards riley rivera
robbins roberts robinson rogers romero rosenberg ross rossi russo ryan sanchez sanders sandoval santos schmidt schneider
schultz schwartz shaw sheridan silva simmons simpson singh slater sloan snyder spencer stein stevens stewart stone sullivan
sutton swanson tanaka taylor thompson thornton torres tucker turner vance vargas vaughan vega wagner walker wallace walsh
walters ward watkins watson weaver webb weber webster weiss wells west wheeler whitman wilcox williams willis wilson winters
wolfe wong wood woodward wright yamamoto yates young zimmerman
"""

CITIES = """
albany amsterdam athens atlanta austin baghdad baltimore bangkok barcelona beijing belfast belgrade berlin bombay boston
brussels bucharest budapest buffalo cairo calcutta caracas charleston charlotte chicago cincinnati cleveland columbus
copenhagen dallas damascus dayton denver detroit dublin edinburgh florence frankfurt geneva glasgow hamburg hanoi
hartford havana helsinki honolulu houston indianapolis istanbul jackson jerusalem johannesburg kansas kiev kingston lima
lisbon liverpool london louisville madison madrid manchester manila melbourne memphis miami milan milwaukee minneapolis
montreal moscow munich nairobi naples nashville newark omaha orlando osaka oslo ottawa oxford paris phoenix pittsburgh
portland prague quebec raleigh richmond rochester rome sacramento saigon santiago savannah seattle seoul shanghai singapore
stockholm stuttgart sydney syracuse tampa tokyo toledo toronto tucson tulsa vancouver venice vienna warsaw wellington
zurich
"""

COUNTRIES = """
argentina australia austria belgium bolivia brazil bulgaria canada chile china colombia croatia cuba denmark ecuador egypt
england ethiopia finland france germany ghana greece guatemala haiti honduras hungary iceland india indonesia iran iraq
ireland israel italy jamaica japan jordan kenya korea kuwait lebanon libya malaysia mexico morocco nigeria norway pakistan
panama peru poland portugal romania russia scotland spain sudan sweden switzerland syria taiwan tanzania thailand tunisia
turkey uganda ukraine venezuela vietnam wales yemen zambia zimbabwe
"""

NATIONS = """
african american arab argentine asian australian austrian belgian brazilian british canadian chilean chinese cuban danish
dutch egyptian european finnish french german greek hungarian indian iranian iraqi irish israeli italian japanese korean
lebanese mexican nigerian norwegian pakistani peruvian polish portuguese romanian russian scottish spanish swedish swiss
turkish ukrainian vietnamese welsh
"""

TRADES = """
advertising aerospace aircraft apparel automotive aviation banking beverage broadcasting cement chemical clothing coal
coffee computer construction copper cosmetics cotton dairy defense drug electronics energy entertainment farm fashion
fertilizer finance fishing food forestry furniture garment gas gold grocery healthcare housing insurance investment leasing
lumber machinery manufacturing media metals mining mortgage oil packaging paper petroleum pharmaceutical plastics
plumbing printing publishing railroad rubber securities semiconductor shipping software steel sugar telecommunications
television textile timber tobacco tourism toy trading transportation travel trucking wheat wine
"""
