"""Words of medicine that the parts of this vertical share: synonyms, drug names, endings of diseases."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("abdominal pain", "stomach pain", "belly pain"),
    ("abrasion", "scrape"),
    ("acetaminophen", "paracetamol"),
    ("acute cystitis", "acute bladder infection"),
    ("adrenaline", "epinephrine"),
    ("allergic rhinitis", "hay fever"),
    ("alopecia", "hair loss"),
    ("amyotrophic lateral sclerosis", "Lou Gehrig's disease"),
    ("anal fissure", "tear of the anus"),
    ("ankylosing spondylitis", "Bechterew's disease"),
    ("anorexia", "loss of appetite"),
    ("appendectomy", "removal of the appendix"),
    ("arthralgia", "joint pain", "pain in the joints"),
    ("ascites", "fluid in the abdomen"),
    ("axilla", "armpit"),
    ("bone density scan", "bone densitometry"),
    ("bradycardia", "slow heart rate"),
    ("breast cancer", "carcinoma of the breast", "mammary carcinoma"),
    ("bruise", "contusion"),
    ("burning on urination", "dysuria", "painful urination"),
    ("bursectomy", "removal of the bursa"),
    ("calculus of kidney", "kidney stone", "nephrolithiasis", "renal stone"),
    ("cardiac arrest", "stopping of the heart"),
    ("cardiac catheterization", "heart catheterization"),
    ("cardiomegaly", "enlarged heart"),
    ("carpal bone", "wrist bone"),
    ("cataract surgery", "removal of the cataract"),
    ("cephalalgia", "headache"),
    ("cerebral hemorrhage", "bleeding in the brain", "intracerebral hemorrhage"),
    ("cervical cancer", "carcinoma of the cervix"),
    ("cervicalgia", "neck pain"),
    ("cesarean section", "cesarean delivery", "C-section"),
    ("chest pain", "pain in the chest"),
    ("chickenpox", "varicella"),
    ("cholecystectomy", "removal of the gallbladder"),
    ("cholelithiasis", "gallstones"),
    ("chronic kidney disease", "chronic renal disease", "chronic renal insufficiency"),
    ("clavicle", "collarbone"),
    ("coccyx", "tailbone"),
    ("colon cancer", "carcinoma of the colon"),
    ("colonic polyps", "polyps of the colon"),
    ("common cold", "acute nasopharyngitis"),
    ("conjunctivitis", "pink eye"),
    ("contraceptive pill", "birth control pill"),
    ("convulsion", "seizure"),
    ("coronary artery bypass graft", "heart bypass surgery"),
    ("coronary artery disease", "coronary heart disease"),
    ("coryza", "runny nose", "rhinorrhea"),
    ("deep vein thrombosis", "blood clot in a deep vein"),
    ("diaphoresis", "sweating"),
    ("diarrhea", "loose stools"),
    ("diplopia", "double vision"),
    ("dizziness", "lightheadedness"),
    ("Down syndrome", "trisomy 21"),
    ("dry mouth", "xerostomia"),
    ("dyslipidemia", "abnormal blood lipids"),
    ("dysmenorrhea", "painful periods", "menstrual cramps"),
    ("dyspepsia", "indigestion"),
    ("dysphagia", "difficulty swallowing", "trouble swallowing"),
    ("dyspnea", "shortness of breath", "difficulty breathing"),
    ("emesis", "vomiting"),
    ("encephalitis", "inflammation of the brain"),
    ("enuresis", "bed-wetting"),
    ("epistaxis", "nosebleed"),
    ("erythema", "redness of the skin"),
    ("erythrocyte", "red blood cell"),
    ("esophagogastroduodenoscopy", "upper endoscopy"),
    ("exophthalmos", "bulging eyes"),
    ("febrile", "feverish"),
    ("femur", "thigh bone"),
    ("flatulence", "passing gas"),
    ("forgetfulness", "memory loss"),
    ("fatigue", "tiredness"),
    ("fever of unknown origin", "pyrexia of unknown origin"),
    ("gastric cancer", "stomach cancer", "carcinoma of the stomach"),
    ("gastric ulcer", "stomach ulcer"),
    ("genital warts", "condyloma acuminatum"),
    ("German measles", "rubella"),
    ("gonarthrosis", "osteoarthritis of the knee", "knee osteoarthritis"),
    ("Graves' disease", "toxic diffuse goiter"),
    ("hallux", "great toe", "big toe"),
    ("heart attack", "myocardial infarction"),
    ("heart failure", "cardiac failure"),
    ("heartburn", "pyrosis"),
    ("hematemesis", "vomiting blood"),
    ("hematochezia", "blood in the stool"),
    ("hematuria", "blood in the urine"),
    ("hemiplegia", "paralysis of one side"),
    ("hemoptysis", "coughing up blood"),
    ("hemorrhoids", "piles"),
    ("hepatic failure", "liver failure"),
    ("hepatocellular carcinoma", "liver cell cancer"),
    ("hepatomegaly", "enlarged liver"),
    ("herpes zoster", "shingles"),
    ("high blood pressure", "hypertension"),
    ("high blood sugar", "hyperglycemia"),
    ("high cholesterol", "hypercholesterolemia"),
    ("humerus", "upper arm bone"),
    ("hyperhidrosis", "excessive sweating"),
    ("hyperkalemia", "high potassium"),
    ("hypernatremia", "high sodium"),
    ("hypertriglyceridemia", "high triglycerides"),
    ("hyperthyroidism", "overactive thyroid"),
    ("hypoglycemia", "low blood sugar"),
    ("hypokalemia", "low potassium"),
    ("hyponatremia", "low sodium"),
    ("hypotension", "low blood pressure"),
    ("hypothyroidism", "underactive thyroid"),
    ("hypoxemia", "low blood oxygen"),
    ("hysterectomy", "removal of the uterus"),
    ("icterus", "jaundice"),
    ("impotence", "erectile dysfunction"),
    ("infectious mononucleosis", "glandular fever"),
    ("influenza", "flu"),
    ("insomnia", "trouble sleeping", "difficulty sleeping"),
    ("itching", "pruritus"),
    ("kidney failure", "renal failure"),
    ("kidney transplant", "renal transplant"),
    ("knee replacement", "knee arthroplasty"),
    ("high fever", "high temperature"),
    ("hip replacement", "hip arthroplasty"),
    ("hip fracture", "fracture of the hip", "broken hip"),
    ("laryngitis", "inflammation of the larynx"),
    ("leukocyte", "white blood cell"),
    ("leukocytosis", "high white cell count"),
    ("leukopenia", "low white cell count"),
    ("low back pain", "lumbago"),
    ("lower leg", "shank"),
    ("lung cancer", "carcinoma of the lung", "bronchogenic carcinoma"),
    ("lymphadenopathy", "swollen lymph nodes"),
    ("mandible", "lower jaw"),
    ("mastectomy", "removal of the breast"),
    ("maxilla", "upper jaw"),
    ("measles", "rubeola"),
    ("melena", "black stools"),
    ("menopause", "change of life"),
    ("mumps", "epidemic parotitis"),
    ("muscle weakness", "weakness of the muscles"),
    ("myalgia", "muscle pain", "muscle aches"),
    ("myopia", "nearsightedness"),
    ("hyperopia", "farsightedness"),
    ("nephrectomy", "removal of the kidney"),
    ("nocturia", "urinating at night"),
    ("obstetric delivery", "childbirth"),
    ("onychomycosis", "fungal infection of the nail"),
    ("otalgia", "ear pain", "earache"),
    ("otitis media", "middle ear infection"),
    ("ovarian cancer", "carcinoma of the ovary"),
    ("palpitations", "pounding heartbeat"),
    ("pancreatic cancer", "carcinoma of the pancreas"),
    ("paresthesia", "tingling"),
    ("patella", "kneecap"),
    ("pertussis", "whooping cough"),
    ("pharyngitis", "sore throat"),
    ("photophobia", "sensitivity to light"),
    ("poliomyelitis", "polio"),
    ("presbyopia", "age-related farsightedness"),
    ("productive cough", "cough with sputum"),
    ("prostate cancer", "carcinoma of the prostate"),
    ("pulmonary edema", "fluid in the lungs"),
    ("pulmonary embolism", "blood clot in the lung"),
    ("pyelonephritis", "kidney infection"),
    ("renal function", "kidney function"),
    ("renal cell carcinoma", "kidney cell cancer"),
    ("scapula", "shoulder blade"),
    ("scarlet fever", "scarlatina"),
    ("sleepiness", "somnolence"),
    ("splenectomy", "removal of the spleen"),
    ("splenomegaly", "enlarged spleen"),
    ("sternum", "breastbone"),
    ("stroke", "cerebrovascular accident"),
    ("strep throat", "streptococcal pharyngitis"),
    ("syncope", "fainting"),
    ("tachycardia", "rapid heart rate", "fast heart rate"),
    ("tachypnea", "rapid breathing"),
    ("tetanus", "lockjaw"),
    ("thrombocytopenia", "low platelet count"),
    ("tibia", "shinbone"),
    ("tinea pedis", "athlete's foot"),
    ("tinnitus", "ringing in the ears"),
    ("tonsillectomy", "removal of the tonsils"),
    ("type 2 diabetes", "adult-onset diabetes"),
    ("type 1 diabetes", "juvenile diabetes"),
    ("upper respiratory infection", "upper respiratory tract infection"),
    ("urinary frequency", "frequent urination"),
    ("urinary incontinence", "loss of bladder control"),
    ("urinary tract infection", "infection of the urinary tract"),
    ("urticaria", "hives"),
    ("vertigo", "spinning sensation"),
    ("viral gastroenteritis", "stomach flu"),
    ("windpipe", "trachea"),
)
"""Terms that a clinician may write for one another, by our own hand; none is a negation, and none is another's opposite."""

FIXED: tuple[str, ...] = tuple(
    name.strip()
    for name in """
    alopecia areata|alopecia mucinosa|alopecia totalis|alopecia universalis|androgenic alopecia|anorexia nervosa
    arterial hypertension|intracranial hypertension|ocular hypertension|portal hypertension|pulmonary hypertension|venous hypertension
    white coat hypertension|orthostatic hypotension|intracranial hypotension|heat stroke|sun stroke|stroke index|stroke rate
    stroke volume|stroke work|cluster headache|migraine headache|tension headache|tension-type headache|interstitial cystitis
    atrial tachycardia|junctional tachycardia|paroxysmal tachycardia|sinus tachycardia|supraventricular tachycardia
    ventricular tachycardia|sinus bradycardia|benign paroxysmal vertigo|positional vertigo|febrile convulsion|febrile seizure
    seizure disorder|carotid sinus syncope|heat syncope|micturition syncope|chronic fatigue|heat fatigue|muscle fatigue
    erythrocyte sedimentation rate|hallux rigidus|hallux valgus|hallux varus|haemophilus influenza|h. influenza|melena neonatorum
    tetanus immune globulin|tetanus toxoid|tetanus vaccine|erythema multiforme|erythema nodosum|erythema infectiosum
    herpes zoster ophthalmicus|neonatal jaundice|pigmentosa urticaria|urticaria pigmentosa|diabetes insipidus
    """.replace("\n", "|").split("|")
    if name.strip()
)
"""Names inside which a term is not to be exchanged: pulmonary hypertension is not pulmonary high blood pressure."""

DRUGS: tuple[str, ...] = words(
    """
    abciximab acarbose acetaminophen acetazolamide acyclovir adalimumab adenosine advair albuterol aldactone alendronate aleve
    allegra allopurinol alprazolam ambien amiodarone amitriptyline amlodipine amoxicillin amphetamine ampicillin aripiprazole
    aspirin atenolol ativan atorvastatin atropine augmentin avandia azathioprine azithromycin baclofen bactrim benadryl benazepril
    benztropine bisoprolol botox budesonide bumetanide bupropion buspirone caffeine calcitriol candesartan captopril
    carbamazepine carboplatin carvedilol cefazolin cefepime ceftriaxone celebrex celecoxib celexa cephalexin cetirizine
    cialis ciprofloxacin cisplatin citalopram clarithromycin claritin clindamycin clonazepam clonidine clopidogrel clozapine codeine
    colchicine compazine coreg coumadin cozaar crestor cyclobenzaprine cyclophosphamide cyclosporine cymbalta dapsone darvocet
    demerol depakote dexamethasone diazepam diclofenac digoxin dilantin dilaudid diltiazem diovan diphenhydramine ditropan
    dobutamine docetaxel donepezil dopamine doxazosin doxepin doxorubicin doxycycline duloxetine effexor elavil eliquis enalapril
    enoxaparin ephedrine epinephrine erythromycin escitalopram esomeprazole estradiol estrogen etanercept ethambutol etodolac
    ezetimibe famotidine fenofibrate fentanyl finasteride flagyl flexeril flomax flonase fluconazole fluorouracil fluoxetine
    fluticasone folate fosamax furosemide gabapentin gemfibrozil gentamicin glimepiride glipizide glucophage glucotrol glyburide
    guaifenesin haldol haloperidol heparin humalog humira hydralazine hydrochlorothiazide hydrocodone hydrocortisone
    hydromorphone hydroxychloroquine hydroxyzine ibuprofen imipramine imitrex imodium indomethacin infliximab insulin ipratropium
    irbesartan isoniazid isosorbide keflex keppra ketamine ketoconazole ketorolac klonopin labetalol lamictal lamotrigine
    lansoprazole lantus lasix latanoprost letrozole levaquin levetiracetam levodopa levofloxacin levothyroxine lexapro lidocaine
    linezolid lipitor lisinopril lithium loperamide lopressor loratadine lorazepam lortab losartan lovastatin lovenox lyrica
    meclizine medrol meloxicam meperidine metformin methadone methimazole methocarbamol methotrexate methylphenidate
    methylprednisolone metoclopramide metoprolol metronidazole midazolam minocycline minoxidil miralax mirtazapine mobic modafinil
    montelukast morphine motrin mucinex mupirocin nabumetone nadolol naloxone naltrexone naprosyn naproxen narcan neurontin nexium
    niacin nifedipine nitrofurantoin nitroglycerin norco norepinephrine nortriptyline norvasc novolog nystatin olanzapine olmesartan
    omeprazole ondansetron oxaliplatin oxcarbazepine oxybutynin oxycodone oxycontin oxytocin paclitaxel pantoprazole paroxetine paxil
    penicillin pepcid percocet phenazopyridine phenergan phenobarbital phentermine phenylephrine phenytoin pioglitazone plaquenil
    plavix potassium pravastatin prazosin prednisolone prednisone pregabalin prevacid prilosec primidone procardia prochlorperazine
    progesterone promethazine propofol propranolol propylthiouracil protonix prozac pseudoephedrine quetiapine quinapril raloxifene
    ramipril ranitidine reglan remeron remicade restoril rifampin risperdal risperidone ritalin rituximab rivaroxaban robaxin
    robitussin ropinirole rosuvastatin salmeterol seroquel sertraline sildenafil simvastatin singulair sitagliptin skelaxin soma
    spironolactone statin sudafed sulfamethoxazole sulfasalazine sumatriptan symbicort synthroid tacrolimus tadalafil tamoxifen
    tamsulosin telmisartan temazepam tenormin terazosin terbinafine testosterone tetracycline theophylline tiotropium tizanidine
    tobramycin topamax topiramate toprol torsemide tramadol trastuzumab trazodone triamcinolone triamterene tricor trileptal
    trimethoprim tylenol ultram valacyclovir valium valproate valsartan valtrex vancomycin vasotec venlafaxine ventolin verapamil
    viagra vicodin vincristine vioxx voltaren vytorin warfarin wellbutrin xanax xarelto zantac zestril zetia zithromax zocor zofran
    zoloft zolpidem zometa zyprexa zyrtec
    """
)
"""Names of common drugs, generic ones and US brands, by our own hand; far from all that there are."""

DRUG_ENDINGS = (
    "azepam", "azole", "caine", "cillin", "cycline", "dipine", "floxacin", "gliptin", "glitazone", "mycin", "olol", "oxetine",
    "parin", "prazole", "pril", "profen", "sartan", "semide", "setron", "statin", "thiazide", "triptan", "tidine", "vir", "zosin",
)  # fmt: skip
"""Stems by which drugs of a class are named (as in WHO's list of international non-proprietary names)."""

DISEASES: tuple[str, ...] = words(
    """
    aids allergy angina asthma bronchospasm cancer cataract cirrhosis convulsion copd croup dementia depression diabetes diarrhea
    eczema embolism emphysema epilepsy fever fracture gangrene gerd glaucoma gout headache heartburn hepatitis hernia herpes hiv
    hypertension hypotension infarction influenza insomnia jaundice leukemia lupus lymphoma malaria measles melanoma migraine
    mumps murmur nausea obesity pneumonia polyp psoriasis rash rubella schizophrenia seizure sepsis stroke syncope syphilis
    tetanus tuberculosis tumor ulcer vertigo vomiting
    """
)
"""Diseases and symptoms whose names have no ending of their kind."""

DISEASE_ENDINGS = (
    "algia", "cele", "ectasis", "edema", "emesis", "emia", "itis", "lithiasis", "malacia", "megaly", "oma", "opathy", "osis",
    "penia", "phagia", "plegia", "pnea", "rrhage", "rrhagia", "rrhea", "thorax", "uria",
)  # fmt: skip
"""Endings of diseases and findings, with which ICD's terms are built: -itis is an inflammation, -emia is of the blood."""

COMMON = frozenset(
    words(
        """
    academia april aroma bohemia chroma coma diagnosis diploma elixir hypnosis metamorphosis mitosis osmosis prognosis reservoir souvenir
    stroma symbiosis thorax oklahoma roma
    """
    )
)
"""Words with such an ending that name no disease and no drug."""
